package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestCalls_filters lists calls by each filter, shows the filter in the form, and keeps it
// on the way to older calls.
func TestCalls_filters(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	var stored []time.Time
	publish := func(resource, call, kind string) {
		m := nats.NewMsg(schemas.WithSlot("acs." + resource + "." + kind + "." + call))
		m.Data = fmt.Appendf(nil, `{"id":"%s-%s","source":"calling/callConnections/%[1]s","type":"Microsoft.Communication.%[2]s","specversion":"1.0","data":{"callConnectionId":"%[1]s"}}`, call, kind)
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), schemas.Stream)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := stream.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, kept.Time)
	}
	publish("contoso", "c-1", "CallConnected")
	publish("contoso", "c-1", "CallDisconnected")
	publish("fabrikam", "c-2", "CallConnected")
	publish("fabrikam", "c-2", "PlayFailed")
	link := regexp.MustCompile(`<a href="/calls/([^"]*)"`)
	second := stored[2].UTC().Format(time.RFC3339Nano)
	for query, want := range map[string]string{
		"": "c-2 c-1", "resource=contoso": "c-1", "type=PlayFailed": "c-2", "state=active": "c-2", "state=ended": "c-1",
		"since=" + second: "c-2", "until=" + second: "c-1", "since=1h": "c-2 c-1", "until=1h": "",
		"resource=contoso&type=CallConnected": "c-1", "resource=contoso&type=PlayFailed": "",
	} {
		status, page := request{path: "/calls?" + query}.page(t, c)
		var got []string
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			got = append(got, found[1])
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" || status != http.StatusOK {
			t.Errorf("%s: %d (-want +got):\n%s", query, status, diff)
		}
		filter, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		for name := range filter {
			value := filter.Get(name)
			shown := regexp.MustCompile(`<input id="` + name + `"[^>]* value="` + value + `"|<option selected>` + value + `</option>`)
			if !shown.MatchString(page) {
				t.Errorf("%s: the form does not show it", query)
			}
		}
	}
	for n := range 50 { // which is a page of calls
		publish("contoso", fmt.Sprintf("d-%d", n), "CallConnected")
	}
	if _, page := (request{path: "/calls?resource=contoso&state=active"}).page(t, c); !regexp.MustCompile(`href="/calls\?before=\d+&amp;resource=contoso&amp;state=active" rel="next">Older`).MatchString(page) {
		t.Error("the link to older calls is not of the same filter:\n", page)
	}
}
