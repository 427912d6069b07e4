package bridge

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// gridSettings are those of a bridge that takes Event Grid with a key and a
// token from the same key server.
func (h *hostileRun) gridSettings() []string {
	return gridArgs("--eventgrid-issuer="+h.issuer.Name(), "--eventgrid-oidc-config-url="+h.issuer.MetadataURL(),
		"--eventgrid-key=new="+writeFile(h.t, "eventgrid-key", private["a key of Event Grid"]))
}

// eventGrid is good and bad deliveries and handshakes of Event Grid.
func (h *hostileRun) eventGrid() {
	token := func(claims map[string]any) string {
		all := map[string]any{"appid": verify.EventGridApplication}
		for name, value := range claims {
			all[name] = value
		}
		return h.token(acstest.TokenSpec{Audience: acstest.DemoApplication, Lifetime: 24 * time.Hour, Claims: all})
	}
	call := fmt.Sprintf(`{"id":%q,"source":%q,"type":"Microsoft.Communication.IncomingCall","specversion":"1.0","subject":"/caller/4:+%s",`+
		`"data":{"incomingCallContext":%q,"correlationId":%q}}`, private["an event's id"]+"grid", acstest.DemoTopic,
		private["a telephone number"], private["the context of an incoming call"], private["a call"])
	handshake := fmt.Sprintf(`[{"id":%q,"topic":"/subscriptions/s","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationUrl":"https://x.example/%s","validationCode":%q}}]`,
		private["an event's id"], private["a body"], strings.Repeat("c", 600))
	for _, test := range []struct {
		what, token, body string
		want              int
		change            func(*http.Request)
	}{
		{"good", token(nil), call, 200, nil},
		{"without keys of Entra ID", token(nil), "x" + call, 400, nil},
		{"of another application", token(map[string]any{"appid": private["a claim"]}), call, 401, nil},
		{"of a callback", h.token(acstest.TokenSpec{}), call, 401, nil},
		{"from elsewhere", token(nil), strings.Replace(call, "/demo", "/"+private["a body"], 1), 400, nil},
		{"handshake with a code that is too long", token(nil), handshake, 400, func(r *http.Request) { r.Header.Set("Aeg-Event-Type", "SubscriptionValidation") }},
		{"handshake of a strange origin", token(nil), "", 400, func(r *http.Request) {
			r.Method = http.MethodOptions
			r.Header.Set("WebHook-Request-Origin", private["a header"]+" x")
		}},
		{"guessed key", token(nil), call, 401, func(r *http.Request) {
			r.URL.RawQuery = "acsbridge-key=" + private["a guessed callback key"]
		}},
	} {
		h.want("Event Grid: "+test.what, h.post(test.token, test.body, func(r *http.Request) {
			r.URL.Path, r.URL.RawQuery = "/eventgrid", "acsbridge-key="+private["a key of Event Grid"]
			r.Header.Set("Aeg-Subscription-Name", private["a header"])
			if test.change != nil {
				test.change(r)
			}
		}), test.want)
	}
	h.pages()
}
