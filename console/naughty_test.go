package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/net/html"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// newConsole returns a console with a stream on a real server.
func newConsole(t testing.TB, change ...func(*console.Options)) (*console.Console, jetstream.JetStream) {
	t.Helper()
	js := natstest.Start(t).JetStream()
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true})
	o := console.Options{
		Reader: &replay.Reader{
			JetStream: func(context.Context) (jetstream.JetStream, error) { return js, nil },
			Stream:    schemas.Stream, Prefix: schemas.SubjectPrefix,
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	return console.New(o), js
}

// naughty returns every string of the list, and some that the list lacks.
func naughty(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/blns.json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(list, `"><script>alert(1)</script>`, "</title><svg onload=alert(1)>", "{{.}}{{template \"layout\"}}", "\u202egnp.exe", "javascript:alert(1)")
}

// fill replaces every text of a JSON value.
func fill(value any, with string) any {
	switch v := value.(type) {
	case string:
		return with
	case []any:
		for i := range v {
			v[i] = fill(v[i], with)
		}
	case map[string]any:
		for name := range v {
			v[name] = fill(v[name], with)
		}
		v["odd"+with] = with
	}
	return value
}

// naughtyEvent is an event with a text in all its members and headers. Its type and the
// ids stay, for otherwise it is shown nowhere.
func naughtyEvent(t *testing.T, call *acstest.SimCall, eventType, text string) *nats.Msg {
	t.Helper()
	e, err := call.NewEvent(eventType)
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	id := data["callConnectionId"].(string)
	data = fill(data, text).(map[string]any)
	data["callConnectionId"] = id
	payload, err := json.Marshal(map[string]any{
		"id": text + e.ID, "source": text, "type": schemas.TypePrefix + eventType, "time": text, "subject": text, "specversion": "1.0", "data": data,
		"dataschema" + text: text,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg(schemas.WithSlot("acs.contoso." + eventType + "." + id))
	m.Data = payload
	for _, name := range []string{
		schemas.HeaderEventID, schemas.HeaderEventSource, schemas.HeaderEventTime, schemas.HeaderTokenSubject, schemas.HeaderTokenClaims,
		schemas.HeaderPath, schemas.HeaderQuery, schemas.HeaderTraceparent, "x-odd",
	} {
		m.Header.Set(name, strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1 // NATS takes no other header
			}
			return r
		}, text))
	}
	return m
}

// single has the first value of each header.
func single(header nats.Header) map[string]string {
	values := make(map[string]string)
	for name := range header {
		values[name] = header.Get(name)
	}
	return values
}

// shape is the page's elements with the names of their attributes, without texts.
func shape(t *testing.T, page string) (list []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		switch n.Type {
		case html.CommentNode:
			t.Errorf("a comment: %s", n.Data)
		case html.ElementNode:
			var names []string
			for _, a := range n.Attr {
				names = append(names, a.Key)
				if link := a.Key == "href" || a.Key == "src" || a.Key == "action"; link && (!strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "//")) && a.Val != "#main" {
					t.Errorf("a link to %s", a.Val)
				}
			}
			list = append(list, n.Data+" "+strings.Join(names, " "))
		}
	}
	return list
}

// TestPages_naughtyStrings puts each text of the Big List of Naughty Strings into every
// member and header of a call's events: the pages have the same elements and attributes
// as with a harmless text, all texts are text. Masking is off, so that they are there.
func TestPages_naughtyStrings(t *testing.T) {
	t.Parallel()
	letters := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	c, js := newConsole(t, func(o *console.Options) { o.ShowPII, o.Bridge = true, &bridge{letters: []string{letters}} })
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{"acs-quarantine.>"}, AllowDirect: true})
	stream, err := js.Stream(t.Context(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	shapes := func(text string) (all [][]string, pages []string) {
		call, at := acstest.NewCall(), time.Now().Add(-time.Minute)
		if err := stream.Purge(t.Context()); err != nil { // a search reads what is stored nearby
			t.Fatal(err)
		}
		var paths []string
		for _, eventType := range []string{"CallConnected", "ParticipantsUpdated", "PlayFailed", "RecognizeCompleted", "CallDisconnected"} {
			m := naughtyEvent(t, call, eventType, text)
			at = at.Add(time.Second)
			m.Header.Set(schemas.HeaderReceivedAt, at.Format(time.RFC3339Nano))
			ack, err := js.PublishMsg(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if eventType == "PlayFailed" {
				paths = append(paths, fmt.Sprintf("/events/%d", ack.Sequence))
				m.Subject = schemas.QuarantineSubject("contoso", "conflict")
				for _, name := range []string{schemas.HeaderResource, schemas.HeaderQuarantineReason, schemas.HeaderContentType} {
					m.Header.Set(name, m.Header.Get("x-odd"))
				}
				if ack, err = js.PublishMsg(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				line, err := json.Marshal(schemas.DeadLetter{Time: at, Reason: text, Subject: m.Subject, Payload: m.Data, Headers: single(m.Header)})
				if err == nil {
					err = os.WriteFile(letters, append(line, '\n'), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				paths = append(paths, fmt.Sprintf("/quarantine/%d", ack.Sequence), "/deadletters", "/deadletters/dead-letters.ndjson/1")
			}
			if eventType == "CallDisconnected" {
				paths = append(paths, fmt.Sprintf("/calls?before=%d", ack.Sequence+1)) // a list that is not in the cache
			}
			if eventType == "CallConnected" {
				subject, _ := schemas.ParseSubject(m.Subject)
				paths = append(paths, "/calls/"+subject.Call)
			}
		}
		for _, path := range paths {
			w := httptest.NewRecorder()
			method := http.MethodPost // which shows personal data
			if strings.HasPrefix(path, "/calls?") || path == "/deadletters" {
				method = http.MethodGet
			}
			c.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if w.Code != http.StatusOK {
				t.Fatalf("%s: %d for %q\n%s", path, w.Code, text, w.Body)
			}
			all, pages = append(all, shape(t, w.Body.String())), append(pages, w.Body.String())
		}
		return all, pages
	}
	want, _ := shapes("harmless")
	shown := 0
	for _, text := range naughty(t) {
		if text == "" {
			continue // there are no empty participants
		}
		got, pages := shapes(text)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with %q the page has other elements (-want +got):\n%s", text, diff)
		}
		for _, page := range pages {
			if strings.ContainsAny(text, "<>") && strings.Contains(page, text) {
				t.Errorf("%q is in a page as it is", text)
			}
			for _, r := range page {
				if r < ' ' && r != '\n' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
					t.Errorf("with %q the page has the character %U", text, r)
					break
				}
			}
			if strings.Contains(page, html.EscapeString(text)) {
				shown++
			}
		}
	}
	if shown < 400 {
		t.Errorf("only %d texts are shown", shown)
	}
}

// TestPages_naughtyRequests puts the texts into addresses and filters.
func TestPages_naughtyRequests(t *testing.T) {
	t.Parallel()
	c, _ := newConsole(t, func(o *console.Options) { o.Token = strings.Repeat("t", 32) })
	ask := func(path string) []string {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("t", 32))
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return shape(t, w.Body.String())
	}
	for _, pattern := range []string{"/login?to=%s", "/calls?since=%s", "/calls?state=%s", "/calls?resource=%s&until=10m", "/calls?outcome=%s", "/calls?type=%s", "/calls?before=%s", "/calls/%s"} {
		var want []string
		for i, text := range append([]string{"harmless"}, naughty(t)...) {
			if text == "" || text == "." || text == ".." || strings.Contains(pattern, "%s&") && i > 50 {
				continue
			}
			got := ask(fmt.Sprintf(pattern, strings.ReplaceAll(urlEscape(text), "+", "%20")))
			if want == nil {
				want = got
			}
			// A number is a filter, and a page of its own.
			if !slices.Equal(want, got) && !isFilter(text) {
				t.Errorf("%s with %q (-want +got):\n%s", pattern, text, cmp.Diff(want, got))
			}
		}
	}
}

func isFilter(text string) bool {
	_, err := replay.ParsePosition(strings.TrimSpace(text), time.Now())
	return err == nil || strings.Trim(text, "0123456789") == ""
}

func urlEscape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
