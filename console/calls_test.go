package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestCalls_outcome filters the list by codes and by words, and names the command that does.
func TestCalls_outcome(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	for call, code := range map[string]string{"c-1": `{"code":487,"subCode":5003}`, "c-2": `{"code":486,"subCode":0}`} {
		data := fmt.Appendf(nil, `{"id":"1","source":"calling/callConnections/%s","type":"Microsoft.Communication.CallDisconnected","specversion":"1.0",`+
			`"data":{"callConnectionId":"%[1]s","resultInformation":%s}}`, call, code)
		if _, err := js.Publish(t.Context(), schemas.WithSlot("acs.contoso.CallDisconnected."+call), data); err != nil {
			t.Fatal(err)
		}
	}
	for query, wants := range map[string][]string{
		"":                 {"/calls/c-1", "/calls/c-2", "487/5003 all endpoints of the callee declined"},
		"outcome=487/5003": {"/calls/c-1", "acsbridge calls --since 1h --outcome 487/5003", `value="487/5003"`},
		"outcome=busy":     {"/calls/c-2", "--outcome busy"},
		"outcome=48":       {"No such calls."},
	} {
		status, text := request{path: "/calls?" + query}.page(t, c)
		for _, want := range wants {
			if status != 200 || !strings.Contains(text, want) {
				t.Errorf("%q: %d, no %s in\n%s", query, status, want, text)
			}
		}
		if n := strings.Count(text, `href="/calls/c-`); query != "" && n > 1 {
			t.Errorf("%q: %d calls", query, n)
		}
	}
}
