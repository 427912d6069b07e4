package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/schemas"
)

// letter is a line that a bridge writes about an event.
func letter(t testing.TB, id, context string) string {
	t.Helper()
	line, err := json.Marshal(schemas.DeadLetter{
		Time: time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC), Reason: "too_large", Index: 7, Stream: schemas.Stream,
		Subject: schemas.WithSlot("acs.contoso.CallConnected.c-1"), Payload: []byte(eventJSON(id, context)),
		Headers: map[string]string{
			schemas.HeaderResource: "contoso", schemas.HeaderContentType: "application/cloudevents+json", schemas.HeaderReceivedAt: "2026-01-02T03:04:05.678Z",
			schemas.HeaderTokenIssuer: "https://issuer.example", schemas.HeaderTokenAudience: "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab", schemas.HeaderTokenKeyID: "k1",
			schemas.HeaderTokenExpires: "1767323345", schemas.HeaderDeliveryID: "d-" + id, schemas.HeaderExpectedStream: schemas.Stream,
			schemas.HeaderMsgID: "calling/callConnections/c-1#" + id, schemas.HeaderEventType: "Microsoft.Communication.CallConnected",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

// newLetters returns a console with a dead-letter file, and its path.
func newLetters(t *testing.T, text string, change ...func(*console.Options)) (c *console.Console, js jetstream.JetStream, path string, log *bridgetest.Log) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dead-letters.ndjson")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log = &bridgetest.Log{}
	c, js = newConsole(t, append([]func(*console.Options){func(o *console.Options) {
		o.Token, o.Write, o.ShowPII, o.Decode, o.Logger = secret, true, true, ingest.Decode, log.Logger()
		o.Bridge = &bridge{letters: []string{path, path + ".taken"}}
	}}, change...)...)
	return c, js, path, log
}

// confirmed asks for an action as its page does, with the version that the page has.
func confirmed(t testing.TB, c http.Handler, cookie *http.Cookie, path, action string) (int, string) {
	t.Helper()
	_, text := request{path: path + "?confirm=" + action, cookie: cookie}.page(t, c)
	version := regexp.MustCompile(`name="version" value="([^"]*)"`).FindStringSubmatch(text)
	if version == nil {
		t.Fatalf("%s cannot be confirmed:\n%s", path, text)
	}
	return request{path: path, method: http.MethodPost, cookie: cookie, form: url.Values{"action": {action}, "version": version[1:]}.Encode()}.page(t, c)
}

// TestLetters lists a dead-letter file, shows a letter masked, and sends again and removes
// what the operator confirms, beside a bridge that goes on writing.
func TestLetters(t *testing.T) {
	t.Parallel()
	const file, taken = "/deadletters/dead-letters.ndjson", "/deadletters/dead-letters.ndjson.taken"
	c, js, path, log := newLetters(t, letter(t, "1", "first")+`{"time":"2026-01-02T03:06:00Z","reason":"corrupt","journalIndex":8}`+"\n"+letter(t, "2", "second"))
	cookie := logIn(t, c)
	get := func(path string) string {
		_, text := request{path: path, cookie: cookie}.page(t, c)
		return text
	}
	list := get("/deadletters")
	if newest, oldest := strings.Index(list, file+`/3"`), strings.Index(list, file+`/1"`); newest < 0 || newest > oldest || !strings.Contains(list, "3 in dead-letters.ndjson") ||
		!strings.Contains(list, "too_large") || !strings.Contains(list, "acsbridge quarantine list --dead-letters "+path) {
		t.Error("the list is\n", list)
	}
	if text := get(file + "/1"); strings.Contains(text, "first") || !strings.Contains(text, `href="/calls/c-1"`) || !strings.Contains(text, "quarantine show 1 --dead-letters "+path) {
		t.Error("the letter is\n", text)
	}
	if _, text := (request{path: file + "/1", method: http.MethodPost, cookie: cookie}).page(t, c); !strings.Contains(text, "first") || !log.Has("the console shows personal data", "dead_letter=1") {
		t.Error("unmasked, the letter is\n", text, log)
	}
	if text := get(file + "/2"); !strings.Contains(text, "corrupt") {
		t.Error("a letter without content is\n", text)
	}
	for _, path := range []string{file + "/4", file + "/0", "/deadletters/lock", "/deadletters/..%2Fdead-letters.ndjson", taken} {
		if status, text := (request{path: path, cookie: cookie}).page(t, c); status != http.StatusNotFound {
			t.Errorf("%s: %d\n%s", path, status, text)
		}
	}
	if text := get(file + "/1?confirm=redrive"); !strings.Contains(text, "every consumer gets it") || !strings.Contains(text, "first renamed to dead-letters.ndjson.taken") {
		t.Error("the confirmation is\n", text)
	}
	// What cannot be published stays, in the file that is taken.
	if status, text := confirmed(t, c, cookie, file+"/2", "redrive"); status != 200 || !strings.Contains(text, "Not done: its content is lost") || !strings.Contains(text, taken+"/2?confirm=drop") {
		t.Errorf("redrive of a letter without content: %d\n%s", status, text)
	}
	if status, text := confirmed(t, c, cookie, taken+"/1", "redrive"); status != http.StatusSeeOther || left(t, js, schemas.Stream) != 1 {
		t.Errorf("redrive: %d\n%s", status, text)
	}
	if err := os.WriteFile(path, []byte(letter(t, "3", "third")), 0o600); err != nil { // by the bridge
		t.Fatal(err)
	}
	if list := get("/deadletters"); !strings.Contains(list, "1 in dead-letters.ndjson.") || !strings.Contains(list, `href="`+taken+`"`) {
		t.Error("with two files the list is\n", list)
	}
	if status, text := confirmed(t, c, cookie, file+"/1", "drop"); status != 200 || !strings.Contains(text, "finish that first") {
		t.Errorf("a second file is taken: %d\n%s", status, text)
	}
	for range 2 {
		if status, text := confirmed(t, c, cookie, taken+"/1", "drop"); status != http.StatusSeeOther {
			t.Errorf("drop: %d\n%s", status, text)
		}
	}
	if _, err := os.Stat(path + ".taken"); !os.IsNotExist(err) || bridgetest.ReadFile(t, path) != letter(t, "3", "third") {
		t.Error("the empty file is there, or the new one has changed:", err)
	}
	if !log.Has("the console changes what was set aside", "action=redrive", "file="+path, "sequence=1", "outcome=done") || !log.Has("action=drop", "outcome=done") {
		t.Error("the log has\n", log)
	}
}

// TestLetters_otherVersion does nothing to a letter that has got the number of another since
// its page was made, nor for another site or by a GET.
func TestLetters_otherVersion(t *testing.T) {
	t.Parallel()
	c, js, path, _ := newLetters(t, letter(t, "1", "first"))
	cookie := logIn(t, c)
	at := "/deadletters/dead-letters.ndjson/1"
	for _, version := range []string{"", "2026-01-02T03:05:00Z/8", "2026-01-02T03:05:01Z/7"} {
		form := url.Values{"action": {"drop"}, "version": {version}}.Encode()
		if _, text := (request{path: at, method: http.MethodPost, form: form, cookie: cookie}).page(t, c); !strings.Contains(text, "this number is another letter by now") {
			t.Errorf("version %q: %s", version, text)
		}
	}
	form := url.Values{"action": {"drop"}, "version": {"2026-01-02T03:05:00Z/7"}}.Encode()
	if answer := (request{path: at, method: http.MethodPost, form: form, cookie: cookie, header: map[string]string{"Sec-Fetch-Site": "cross-site"}}).to(c); answer.StatusCode != http.StatusForbidden {
		t.Error("of another site:", answer.Status)
	}
	request{path: at + "?" + form, cookie: cookie}.to(c)
	if text := bridgetest.ReadFile(t, path); text != letter(t, "1", "first") || left(t, js, schemas.Stream) != 0 {
		t.Error("the file is\n", text)
	}
}

// TestLetters_withoutLogin shows and removes letters without a login to NATS, and only
// the console of a bridge has them.
func TestLetters_withoutLogin(t *testing.T) {
	t.Parallel()
	c, _, path, _ := newLetters(t, letter(t, "1", "first"), func(o *console.Options) { o.Reader = nil })
	cookie := logIn(t, c)
	at := "/deadletters/dead-letters.ndjson/1"
	if _, text := confirmed(t, c, cookie, at, "redrive"); !strings.Contains(text, "has no login to NATS") {
		t.Error("redrive without a login:\n", text)
	}
	if status, text := confirmed(t, c, cookie, at, "drop"); status != http.StatusSeeOther {
		t.Errorf("drop: %d\n%s", status, text)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the letter is there:", err)
	}
	c, _, _, _ = newLetters(t, letter(t, "1", "first"), func(o *console.Options) { o.Write = false })
	if _, text := (request{path: at, method: http.MethodPost, form: "action=drop", cookie: logIn(t, c)}).page(t, c); !strings.Contains(text, "without --console-write") {
		t.Error("without --console-write:\n", text)
	}
	c, _, _, _ = newLetters(t, letter(t, "1", "first"), func(o *console.Options) { o.Reader, o.Token = nil, "" })
	if status, text := (request{path: at}).page(t, c); status != http.StatusForbidden || strings.Contains(text, "c-1") {
		t.Errorf("without a login and a token: %d\n%s", status, text)
	}
	c, _ = newConsole(t)
	if status, text := (request{path: "/deadletters"}).page(t, c); status != http.StatusNotFound || strings.Contains(text, "Dead letters") {
		t.Errorf("a console without a bridge: %d\n%s", status, text)
	}
}

// TestLetters_manyPages goes through a file page by page.
func TestLetters_manyPages(t *testing.T) {
	t.Parallel()
	c, _, _, _ := newLetters(t, strings.Repeat(letter(t, "1", "first"), 250))
	cookie := logIn(t, c)
	seen := 0
	for path, pages := "/deadletters", 0; path != ""; pages++ {
		_, text := request{path: path, cookie: cookie}.page(t, c)
		for _, row := range regexp.MustCompile(`<td><a href="/deadletters/dead-letters.ndjson/(\d+)">`).FindAllStringSubmatch(text, -1) {
			if row[1] != fmt.Sprint(250-seen) {
				t.Fatalf("letter %s comes where %d is wanted", row[1], 250-seen)
			}
			seen++
		}
		path = ""
		if next := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(text); next != nil {
			path = next[1]
		}
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
	}
	if seen != 250 {
		t.Errorf("%d of 250 letters are listed", seen)
	}
}
