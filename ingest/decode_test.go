package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

func TestStatusOf_isFinalOnlyWhenNoRetryHelps(t *testing.T) {
	type answer struct {
		err  error
		code int
	}
	answers := []answer{
		{nil, 200},
		{errNotFound, 404}, {errMethod, 405}, {errTooLarge, 413}, {errMediaType, 415},
		{errSource, 403}, {errCallbackKey, 401}, {errGridKey, 401}, {errRefusedClient, 503}, {errQuarantineRate, 503},
		{errBusy, 503}, {errDraining, 503}, {errIncomplete, 503},
		{verify.ErrNoKeys, 503},
		{publish.ErrUnavailable, 503}, {publish.ErrUnverified, 503},
		{fmt.Errorf("%w: %w", publish.ErrUnavailable, journal.ErrFull), 503},
		{fmt.Errorf("%w: %w", publish.ErrUnavailable, context.DeadlineExceeded), 503},
		{context.Canceled, 503}, {errors.New("something new"), 503},
	}
	for _, r := range verify.Reasons() {
		answers = append(answers, answer{fmt.Errorf("wrapped: %w", &verify.RefusedError{Reason: r}), 401})
	}
	for _, r := range Reasons() {
		answers = append(answers, answer{malformed(r, "detail"), 400})
	}
	for _, a := range answers {
		if got, _ := statusOf(a.err); got != a.code {
			t.Errorf("%v: got %d, want %d", a.err, got, a.code)
		}
	}
}

func TestTraceparent_isWellFormedOrAbsent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string]string{
		good: good, "": "", good + "x": "", good[:54]: "",
		"ff" + good[2:]: "", strings.ToUpper(good): "", "0-" + good[2:]: "",
		good[:10] + "-" + good[11:]: "", good[:54] + "\n": "",
	} {
		if got := traceparent(http.Header{"Traceparent": {value}}); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func TestDecode_bounds(t *testing.T) {
	const open, end = `{"id":"1","source":"s","type":"t","specversion":"1.0","data":`, `}`
	event := open + `1` + end
	// Counted are the document, brackets, colons and commas: 14 around the
	// elements, which have one comma fewer than elements.
	tokens := func(n int) string {
		list := strings.Repeat("1,", n-13)
		return open + "[" + strings.TrimSuffix(list, ",") + "]" + end
	}
	for _, c := range []struct {
		name, body string
		want       Reason
	}{
		{"events", "[" + strings.Repeat(event+",", MaxEvents-1) + event + "]", ""},
		{"events", "[" + strings.Repeat(event+",", MaxEvents) + event + "]", TooManyEvents},
		{"depth", open + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + end, ""},
		{"depth", open + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + end, TooDeep},
		{"tokens", tokens(MaxTokens), ""},
		{"tokens", tokens(MaxTokens + 1), TooManyTokens},
		{"call id of another type", open + `{"callConnectionId":7}` + end, ""},
	} {
		_, err := new(decoder).decode([]byte(c.body))
		var bad *malformedError
		if errors.As(err, &bad); (bad == nil) != (c.want == "") || bad != nil && bad.reason != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if MaxBody != 256<<10 || MaxEvents != 100 || MaxDepth != 64 || MaxTokens != 50_000 || storeWithin != 5*time.Second || storeWithin >= edge.WriteTimeout {
		t.Error("a documented bound has changed")
	}
}

// TestDecode_otherEncodings: the error names the encoding, which tools of Windows write
// by default.
func TestDecode_otherEncodings(t *testing.T) {
	for body, encoding := range map[string]string{
		"\xff\xfe[\x00]\x00": "UTF-16", "\xfe\xff\x00[\x00]": "UTF-16", "\xff\xfe\x00\x00[\x00\x00\x00": "UTF-32",
	} {
		for _, grid := range []bool{false, true} {
			_, err := Decode(grid, "application/json", []byte(body))
			if err == nil || !strings.HasPrefix(err.Error(), string(NotUTF8)+": ") || !strings.Contains(err.Error(), encoding) {
				t.Errorf("%q, Event Grid %v: got %v", body, grid, err)
			}
		}
	}
}

// checkDecoded compares a decoded event with what encoding/json, an independent parser,
// reads from the same bytes.
func checkDecoded(t *testing.T, e *schemas.Inbound) (members map[string]any) {
	t.Helper()
	if err := json.Unmarshal(e.Raw, &members); err != nil {
		t.Fatalf("not the bytes of an object: %q: %v", e.Raw, err)
	}
	data, _ := members["data"].(map[string]any)
	names := map[string]string{"id": e.ID, "source": e.Source, "type": e.Type, "specversion": "1.0"}
	if e.Grid != nil {
		if e.Grid.OwnSchema {
			if members["specversion"] == "1.0" {
				t.Fatalf("%q: a CloudEvent in Event Grid's own schema", e.Raw)
			}
			names = map[string]string{"id": e.ID, "topic": e.Source, "eventType": e.Type}
		}
		if want, _ := data["correlationId"].(string); want != e.Grid.CorrelationID || e.CallConnectionID != "" {
			t.Fatalf("%q: correlation %q, connection %q", e.Raw, e.Grid.CorrelationID, e.CallConnectionID)
		}
	}
	for name, value := range names {
		if members[name] != value || value == "" {
			t.Fatalf("%q: %s is %q", e.Raw, name, value)
		}
	}
	return members
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`[{"id":"1","source":"s","type":"a.b","data":{"callConnectionId":"c","x":[1,{"y":null}]},"specversion":"1.0"}]`,
		` { "id":"1" , "source":"s","type":"t","specversion":"1.0","data":"\u00e9\ud83d\ude00" } `,
		`[]`, `[{}]`, `{"id":1}`, `"\\"`, `[[[`, "{\"\xff\":1}", `{"a":1,"\u0061":2}`, `{"data":{"callConnectionId":7}}`, `"`, `{"a`, `{} []`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		original := string(body)
		events, err := new(decoder).decode(body)
		if string(body) != original {
			t.Fatal("the body was changed")
		}
		if bad := new(malformedError); err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if len(events) == 0 || len(events) > MaxEvents {
			t.Fatalf("%d events", len(events))
		}
		for i := range events {
			checkDecoded(t, &events[i])
		}
	})
}

func FuzzDecodeGrid(f *testing.F) {
	const own = `{"id":"1","topic":"/t","subject":"","data":{"correlationId":"k","validationCode":"c"},"eventType":"a.b","dataVersion":"1","metadataVersion":"1","eventTime":"2026-03-01T12:00:00Z"}`
	const validation = `{"id":"1","topic":"/t","data":{"validationCode":"c"},"eventType":"` + gridValidationType + `"}`
	for _, seed := range []string{
		own, "[" + own + "," + own + "]", validation, "[" + validation + "]", "[" + validation + "," + own + "]",
		`{"id":"1","source":"/t","type":"a.b","data":{"correlationId":"k"},"specversion":"1.0","time":"t"}`,
		`{"id":"1","source":"/t","type":"a.b","topic":"/u","eventType":"c.d","specversion":"1.0"}`,
		`{"id":"1","source":"/t","type":"` + gridValidationType + `","specversion":"1.0","data":{"validationCode":"c"}}`,
		`{"id":"1","topic":"/t","eventType":"x","specversion":""}`, `{"id":"1","topic":"/t","eventType":"x","data":[{"correlationId":"k"}]}`,
		`{"id":"1","topic":"/t","eventType":"x","data":{"correlationId":7,"a":{"correlationId":"no"}}}`, `[]`, `[{}]`, `{"topic":1}`, `{`,
		`{"id":"1","\u0074opic":"/t","eventType":"x","data":{"\u0063orrelationId":"k"}}`,
	} {
		f.Add([]byte(seed), "application/json", false)
		f.Add([]byte(seed), "", true)
		f.Add([]byte(seed), schemas.ContentTypeEvent, false)
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string, handshake bool) {
		original := string(body)
		events, code, err := decodeGrid(contentType, handshake, body)
		if string(body) != original {
			t.Fatal("the body was changed")
		}
		if bad := new(malformedError); err != nil {
			if !errors.As(err, &bad) || bad.reason == NotCloudEvents {
				t.Fatalf("an error without a reason of this route: %v", err)
			}
			return
		}
		if len(events) == 0 || len(events) > MaxEvents || handshake != (code != "") {
			t.Fatalf("%d events, handshake %v, code %q", len(events), handshake, code)
		}
		for i := range events {
			e := &events[i]
			members := checkDecoded(t, e)
			data, _ := members["data"].(map[string]any)
			eventTime := members["time"]
			if e.Grid.OwnSchema {
				eventTime = members["eventTime"]
			}
			if text, ok := eventTime.(string); ok && text != e.Time {
				t.Fatalf("%q: time %q", e.Raw, e.Time)
			}
			if isOne := e.Grid.OwnSchema && e.Type == gridValidationType; isOne != handshake || handshake && code != data["validationCode"] {
				t.Fatalf("%q: handshake %v, code %q", e.Raw, handshake, code)
			}
		}
	})
}

// BenchmarkDecode reads the body of ACS's median size, and the largest known:
// a roster of 350 participants.
func BenchmarkDecode(b *testing.B) {
	one := fmt.Sprintf(`[{"id":"db189c87","source":"calling/callConnections/08002180","type":"Microsoft.Communication.PlayCompleted","data":{"version":"2025-05-15","operationContext":"menu","resultInformation":{"code":200,"subCode":0,"message":"Action completed successfully."},"callConnectionId":"08002180-d3a7-4e55-bbeb-0887be645341","serverCallId":"%s","correlationId":"88e543e1-51dd-4cce-800b-ea99a6a074c7","publicEventType":"Microsoft.Communication.PlayCompleted"},"time":"2026-03-01T12:00:00.1234567+00:00","specversion":"1.0","datacontenttype":"application/json","subject":"calling/callConnections/08002180"}]`, strings.Repeat("aHR0cHM6", 25))
	participant := `{"identifier":{"kind":"communicationUser","rawId":"8:acs:5aba7c7e-9cdb-44cf-a8bf-237846a00ab7_0000001f-0000-0000-0000-000000000000","communicationUser":{"id":"8:acs:5aba7c7e-9cdb-44cf-a8bf-237846a00ab7_0000001f-0000-0000-0000-000000000000"}},"isMuted":false,"isOnHold":false}`
	roster := `[{"id":"1","source":"s","type":"Microsoft.Communication.ParticipantsUpdated","data":{"callConnectionId":"c","participants":[` + strings.TrimSuffix(strings.Repeat(participant+",", 350), ",") + `],"sequenceNumber":7},"specversion":"1.0"}]`
	for name, body := range map[string]string{"median": one, "roster": roster} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(body)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := new(decoder).decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
