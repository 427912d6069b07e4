package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// What must be in nothing that the bridge says, each by what it is.
var private = map[string]string{
	"a token":                         "eyJ",
	"a callback key":                  "callback0key0that0nobody0else0has",
	"a guessed callback key":          "guessed0callback0key0of0a0client",
	"the admin token":                 "admin0token0that0nobody0else0has0",
	"a guessed admin token":           "guessed0admin0token0of0a0client",
	"the password of NATS":            "nats0password0that0nobody0else0has",
	"a telephone number":              "4915550100234",
	"a participant":                   "7e0b6ac5-participant",
	"a call":                          "401f3500-call",
	"a body":                          "words-of-a-body",
	"a query":                         "words-of-a-query",
	"a path":                          "words-of-a-path",
	"an event's id":                   "4b1d-event",
	"a claim":                         "words-of-a-claim",
	"a key's name":                    "kid-of-a-foreign-key",
	"a header":                        "words-of-a-header",
	"a key of Event Grid":             "eventgrid0key0that0nobody0else0has",
	"the context of an incoming call": "words-of-a-context",
}

// hostileRun is a bridge with everything that it says written down.
type hostileRun struct {
	t      *testing.T
	bridge *Bridge
	nats   *natstest.Server
	issuer *acstest.Issuer

	mu   sync.Mutex
	said bytes.Buffer
}

func (h *hostileRun) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said.Write(b)
}

func (h *hostileRun) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said.String()
}

// TestBridge_nothingLeaks runs everything hostile and everything that fails against a
// whole bridge that logs at debug, and looks for what is private in its log, its
// answers, its metrics and its admin pages.
func TestBridge_nothingLeaks(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			h := newHostileRun(t, format)
			h.withoutKeys()
			h.withoutRights()
			h.unauthenticated()
			h.insiders()
			h.eventGrid()
			h.withoutNATS()
			h.panics()
			h.warnings()
			h.ofOperators()
			h.check()
		})
	}
}

func newHostileRun(t *testing.T, format string) *hostileRun {
	t.Helper()
	h := &hostileRun{t: t, nats: natstest.Start(t, withoutTheRightToPublish), issuer: newIssuer(t)}
	h.issuer.SetFault(acstest.FaultError)
	settings := onLoopback(t, append(h.gridSettings(), "--resource=contoso="+testGUID, "--issuer="+h.issuer.Name(), "--oidc-config-url="+h.issuer.MetadataURL(),
		"--callback-key=new="+bridgetest.WriteFile(t, "callback-key", private["a callback key"]),
		"--admin-token-file="+bridgetest.WriteFile(t, "admin-token", private["the admin token"]),
		"--nats-url="+h.nats.URL(), "--nats-user=bridge", "--nats-password-file="+bridgetest.WriteFile(t, "password", private["the password of NATS"]),
		"--log-level=debug", "--log-format="+format, "--shutdown-timeout=1s", "--ack-wait=10ms")...)
	h.bridge = runBridge(t, settings, view.NewLogger(h, settings.LogFormat, settings.LogLevel))
	return h
}

// withoutTheRightToPublish lets the bridge look and create, and no more.
func withoutTheRightToPublish(o *natsserver.Options) {
	o.Users = []*natsserver.User{{Username: "bridge", Password: private["the password of NATS"], Permissions: &natsserver.Permissions{
		Publish: &natsserver.SubjectPermission{Allow: []string{"$JS.API.STREAM.>"}},
	}}, {Username: "test", Password: "test"}}
	o.NoAuthUser = "test"
}

// token signs one for the bridge, with something private in it.
func (h *hostileRun) token(spec acstest.TokenSpec) string {
	h.t.Helper()
	if spec.Audience == "" {
		spec.Audience = testGUID
	}
	claims := map[string]any{"sub": private["a claim"], "jti": private["a claim"] + "-jti", "phone": "+" + private["a telephone number"]}
	for name, value := range spec.Claims {
		claims[name] = value
	}
	spec.Claims = claims
	token, err := h.issuer.Sign(spec)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// body is a callback of one event with a name for it.
func (h *hostileRun) body(name string) string {
	return fmt.Sprintf(`[{"id":%q,"source":"calling/callConnections/%[2]s","type":"Microsoft.Communication.ParticipantsUpdated","specversion":"1.0",`+
		`"data":{"callConnectionId":%[2]q,"participants":[{"rawId":"8:acs:%[3]s"},{"phoneNumber":{"value":"+%[4]s"}}],"operationContext":%[5]q}}]`,
		private["an event's id"]+name, private["a call"], private["a participant"], private["a telephone number"], private["a body"]+name)
}

// post sends a callback with the key of the callback URL and writes the answer
// down. A change may make it another one.
func (h *hostileRun) post(token, body string, change ...func(*http.Request)) int {
	h.t.Helper()
	url := h.bridge.CallbackURL() + "/" + private["a path"] + "?callerId=%2B" + private["a telephone number"] + "&q=" + private["a query"] +
		"&acsbridge-key=" + private["a callback key"]
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("X-Words", private["a header"])
	for _, f := range change {
		f(r)
	}
	return h.send(r)
}

func (h *hostileRun) send(r *http.Request) int {
	h.t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	dump, err := httputil.DumpResponse(response, true)
	if err != nil {
		h.t.Fatal(err)
	}
	_, _ = h.Write(dump)
	return response.StatusCode
}

// raw sends bytes and writes down what comes back.
func (h *hostileRun) raw(text string) {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.bridge.callbacks.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		h.t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.Copy(h, conn)
}

// want fails unless a step had its answer, without which nothing was tried.
func (h *hostileRun) want(what string, got, want int) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func (h *hostileRun) withoutKeys() {
	h.want("without keys", h.post(h.token(acstest.TokenSpec{}), h.body("a")), 503)
	h.pages()
	h.issuer.SetFault(acstest.FaultNone)
	natstest.Until(h.t, func() bool { return h.bridge.verifier.Keys().Held > 0 })
}

// withoutRights has NATS refuse what the bridge publishes, and name the subject.
func (h *hostileRun) withoutRights() {
	h.want("without rights", h.post(h.token(acstest.TokenSpec{}), h.body("b")), 200)
	h.want("without the right to quarantine", h.post(h.token(acstest.TokenSpec{}), private["a body"]), 400)
	natstest.Until(h.t, func() bool { return strings.Contains(strings.ToLower(h.text()), "permissions violation for publish") })
	natstest.Until(h.t, func() bool { s := h.bridge.publisher.Status(); return s.Cause() != nil })
	h.pages()
	h.nats.Restrict(func(o *natsserver.Options) { o.Users, o.NoAuthUser = nil, "" })
	h.nats.Restart()
	h.nats.Await(schemas.Stream, 1)
}

// unauthenticated posts callbacks without a valid token.
func (h *hostileRun) unauthenticated() {
	good := h.token(acstest.TokenSpec{})
	for what, token := range map[string]string{
		"bad_signature":      h.token(acstest.TokenSpec{Forge: acstest.ForgeSignature}),
		"another key":        h.token(acstest.TokenSpec{Forge: acstest.ForgeKey}),
		"alg none":           h.token(acstest.TokenSpec{Forge: acstest.ForgeAlgNone}),
		"alg HS256":          h.token(acstest.TokenSpec{Forge: acstest.ForgeHMAC}),
		"expired":            h.token(acstest.TokenSpec{Lifetime: -time.Hour}),
		"not yet valid":      h.token(acstest.TokenSpec{Now: time.Now().Add(8 * time.Minute), Lifetime: time.Minute}),
		"too long":           h.token(acstest.TokenSpec{Lifetime: 24 * time.Hour}),
		"another issuer":     h.token(acstest.TokenSpec{Issuer: "https://" + private["a claim"] + ".example"}),
		"another audience":   h.token(acstest.TokenSpec{Audience: private["a claim"]}),
		"crit":               h.token(acstest.TokenSpec{Header: map[string]any{"crit": []string{private["a header"]}}}),
		"jku":                h.token(acstest.TokenSpec{Header: map[string]any{"jku": "https://" + private["a header"] + ".example"}}),
		"cut off":            good[:len(good)-20],
		"two signatures":     good + "." + private["a claim"],
		"not base64":         "eyJ*" + private["a claim"] + "." + good,
		"a member twice":     base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","`+private["a claim"]+`":1,"`+private["a claim"]+`":2}`)) + good[strings.Index(good, "."):],
		"more than one word": good + " " + private["a claim"],
	} {
		h.want(what, h.post(token, h.body("c")), 401)
	}
	h.want("unknown key", h.post(h.token(acstest.TokenSpec{Forge: acstest.ForgeUnknownKid, Header: map[string]any{"kid": private["a key's name"]}}), h.body("c")), 503)
	h.want("no token", h.post(good, h.body("c"), func(r *http.Request) { r.Header.Del("Authorization") }), 401)
	h.want("another scheme", h.post(good, h.body("c"), func(r *http.Request) { r.SetBasicAuth("u", private["a claim"]) }), 401)
	h.want("two tokens", h.post(good, h.body("c"), func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+good) }), 401)
	h.want("a guessed key", h.post(good, h.body("c"), func(r *http.Request) {
		r.URL.RawQuery = "acsbridge-key=" + private["a guessed callback key"] + "&q=" + private["a query"]
	}), 401)
	h.want("another path", h.post(good, h.body("c"), func(r *http.Request) { r.URL.Path = "/" + private["a path"] }), 404)
	h.want("another method", h.post(good, "", func(r *http.Request) { r.Method = http.MethodGet }), 405)
	for _, text := range []string{
		private["a body"] + "\r\n\r\n",
		"POST /callbacks/" + private["a path"] + " HTTP/9.9\r\n\r\n",
		"POST /callbacks?" + private["a query"] + " HTTP/1.1\r\nHost: h\r\n" + private["a header"] + "\r\n\r\n",
		"POST /callbacks?" + private["a query"] + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + good + "\r\nContent-Length: x\r\n\r\n",
		"POST /callbacks%zz" + private["a path"] + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /callbacks HTTP/1.1\r\nHost: h\r\nX-A: " + strings.Repeat(private["a header"], 4000) + "\r\n\r\n",
		"POST /callbacks HTTP/1.1\r\nHost: " + private["a header"] + " \x01\r\nAuthorization: Bearer " + good + "\r\n\r\n",
		"\x16\x03\x01" + private["a body"],
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + private["a body"],
	} {
		h.raw(text)
	}
}

// insiders have a good token.
func (h *hostileRun) insiders() {
	token := func() string { return h.token(acstest.TokenSpec{}) }
	key := "acsbridge-key=" + private["a callback key"]
	h.want("stored", h.post(token(), h.body("d")), 200)
	h.want("repeated", h.post(token(), h.body("d")), 200)
	h.want("in conflict", h.post(token(), strings.Replace(h.body("d"), private["a body"], private["a body"]+"-other", 1)), 200)
	h.nats.Await(schemas.QuarantineStream, 1)
	reused := token()
	h.want("first use", h.post(reused, h.body("e")), 200)
	h.want("reused", h.post(reused, h.body("f")), 200)
	secretive := private["a body"]
	for what, body := range map[string]string{
		"empty": "", "no JSON": secretive, "cut off": h.body("g")[:60], "not UTF-8": `["` + secretive + "\xff\"]", "two documents": h.body("g") + h.body("g"),
		"a member twice":   `[{"` + secretive + `":1,"` + secretive + `":2}]`,
		"too deep":         strings.Repeat(`[`, 100) + `"` + secretive + `"`,
		"no CloudEvents":   `[{"id":"` + secretive + `"}]`,
		"another version":  strings.Replace(h.body("g"), `"1.0"`, `"`+secretive+`"`, 1),
		"id is an object":  `[{"id":{"` + secretive + `":1},"source":"s","type":"t","specversion":"1.0"}]`,
		"not a list":       `"` + secretive + `"`,
		"a lone surrogate": `[{"id":"\ud800` + secretive + `","source":"s","type":"t","specversion":"1.0"}]`,
	} {
		h.want(what, h.post(token(), body), 400)
	}
	h.want("media type", h.post(token(), h.body("h"), func(r *http.Request) { r.Header.Set("Content-Type", "text/"+private["a header"]) }), 415)
	h.want("compressed", h.post(token(), h.body("h"), func(r *http.Request) { r.Header.Set("Content-Encoding", private["a header"]) }), 415)
	h.want("too large", h.post(token(), strings.Repeat(secretive, 20000)), 413)
	h.raw("POST /callbacks?" + key + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token() + "\r\nContent-Length: 5000\r\n\r\n" + h.body("i"))
	odd := strings.NewReplacer("ParticipantsUpdated", "a.*.> "+secretive+`\r\nNats-Rollup: all`, private["an event's id"], `\u0000`+private["an event's id"])
	h.want("odd names", h.post(token(), odd.Replace(h.body("j"))), 200)
}

// withoutNATS has the connection break while there is something to publish.
func (h *hostileRun) withoutNATS() {
	h.nats.Stop()
	natstest.Until(h.t, func() bool { return !h.bridge.publisher.Status().Connected })
	h.want("NATS is disconnected", h.post(h.token(acstest.TokenSpec{}), h.body("k")), 200)
	h.pages()
	h.nats.Restrict(func(o *natsserver.Options) { o.Username, o.Password = "another", "password" })
	h.nats.Restart() // and does not let us in
	natstest.Until(h.t, func() bool {
		_, problem := h.bridge.link.State()
		return problem != nil && strings.Contains(strings.ToLower(problem.Error()), "authorization")
	})
	h.pages()
}

// panics has a handler with the bridge's own log meet a bug.
func (h *hostileRun) panics() {
	registry := prometheus.NewRegistry()
	handler, err := ingest.New(ingest.Config{Verifier: h.bridge.verifier, Publisher: bug{}, Logger: h.bridge.logger, Registerer: registry})
	if err != nil {
		h.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/callbacks/"+private["a path"]+"?q="+private["a query"], strings.NewReader(h.body("l")))
	r.Header.Set("Authorization", "Bearer "+h.token(acstest.TokenSpec{}))
	for _, serve := range []http.Handler{handler, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})} {
		w := httptest.NewRecorder()
		serve.ServeHTTP(w, r)
		dump, err := httputil.DumpResponse(w.Result(), true)
		if err != nil {
			h.t.Fatal(err)
		}
		_, _ = h.Write(dump)
	}
}

// bug is a publisher that panics with what it was given.
type bug struct{}

func (bug) Publish(_ context.Context, claims *verify.Claims, d *publish.Delivery, events []schemas.Inbound) error {
	panic(fmt.Sprintf("%s %+v %s", claims.JSON(), d, events[0].Raw))
}

func (bug) Quarantine(context.Context, *verify.Claims, *publish.Delivery, string, string, []byte) error {
	panic("not asked for here")
}

// warnings waits until the log says why callbacks were refused.
func (h *hostileRun) warnings() {
	natstest.Until(h.t, func() bool { return strings.Count(h.text(), "callbacks are refused") >= 15 })
}

// ofOperators asks the admin listener what unauthenticated clients would.
func (h *hostileRun) ofOperators() {
	base := "http://" + h.bridge.admin.Addr().String()
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/" + private["a path"], "/debug/pprof/"} {
		for _, change := range []func(*http.Request){
			func(*http.Request) {},
			func(r *http.Request) {
				r.Header.Set("Authorization", "Bearer "+private["a guessed admin token"])
			},
			func(r *http.Request) { r.URL.RawQuery = "token=" + private["a guessed admin token"] },
			func(r *http.Request) { r.Host = private["a header"] + ".example" },
		} {
			r, err := http.NewRequest(http.MethodGet, base+path, nil)
			if err != nil {
				h.t.Fatal(err)
			}
			change(r)
			h.send(r)
		}
	}
	h.pages()
}

// pages writes down what an operator sees.
func (h *hostileRun) pages() {
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		r, err := http.NewRequest(http.MethodGet, "http://"+h.bridge.admin.Addr().String()+path, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+private["the admin token"])
		h.send(r)
	}
}

// check looks for what is private, and before that for signs that everything
// happened that was meant to.
func (h *hostileRun) check() {
	said := h.text()
	for _, sign := range []string{
		"missing_token", "malformed_token", "unsupported_header", "bad_algorithm", "bad_signature", "expired", "not_yet_valid",
		"lifetime_too_long", "wrong_issuer", "wrong_audience", "keys_unavailable", "callback_key", "eventgrid_key", "wrong_application", "unknown_source", "not_event_grid", "not_found", "method",
		"media_type", "too_large", "incomplete", "not_json", "panic in a handler", "token came again with another body",
		"event has the id of another one", "permissions violation", "disconnected from NATS", "acsbridge_requests_total{", "DEBUG",
		"a token signed by ACS names an audience that is not a GUID", " in the last 5 minutes",
	} {
		if !strings.Contains(said, sign) {
			h.t.Errorf("nothing was said of %q: that was not tried", sign)
		}
	}
	for what, text := range private {
		for line := range strings.Lines(said) {
			if strings.Contains(line, text) {
				h.t.Errorf("%s was said: %s", what, line)
				break
			}
		}
	}
}
