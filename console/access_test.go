package console_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

var secret = strings.Repeat("s", 32)

// request is one request of a browser or a script.
type request struct {
	method, path, form string
	header             map[string]string
	cookie             *http.Cookie
}

func (q request) to(c http.Handler) *http.Response {
	if q.method == "" {
		q.method = http.MethodGet
	}
	r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.form))
	r.Host = "localhost:9090"
	if q.form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	if q.cookie != nil {
		r.AddCookie(q.cookie)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result()
}

// logIn returns the cookie of a session.
func logIn(t *testing.T, c http.Handler) *http.Cookie {
	t.Helper()
	answer := request{method: http.MethodPost, path: "/login", form: url.Values{"token": {secret}, "to": {"/calls"}}.Encode()}.to(c)
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/calls" || len(answer.Cookies()) != 1 {
		t.Fatalf("login: %s, %v", answer.Status, answer.Header)
	}
	return answer.Cookies()[0]
}

func TestConsole_access(t *testing.T) {
	t.Parallel()
	log := &bridgetest.Log{}
	c, _ := newConsole(t, func(o *console.Options) { o.Token, o.Logger, o.ShowPII = secret, log.Logger(), true })
	cookie := logIn(t, c)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Secure || cookie.Value == secret {
		t.Errorf("the cookie is %s", cookie)
	}
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	html, cross := map[string]string{"Accept": "text/html"}, map[string]string{"Sec-Fetch-Site": "cross-site"}
	for name, test := range map[string]struct {
		request
		want int
	}{
		"page without a token":    {request{path: "/calls"}, 401},
		"live without a token":    {request{path: "/live"}, 401},
		"event without a token":   {request{path: "/events/1", method: http.MethodPost}, 401},
		"browser without a token": {request{path: "/calls", header: html}, 303},
		"login form":              {request{path: "/login"}, 200},
		"style":                   {request{path: "/assets/console.css"}, 200},
		"no file":                 {request{path: "/assets/..%2fconsole.go"}, 400},
		"wrong bearer":            {request{path: "/calls", header: map[string]string{"Authorization": "Bearer x"}}, 401},
		"a part of the token":     {request{path: "/calls", header: map[string]string{"Authorization": "Bearer " + secret[1:]}}, 401},
		"more than the token":     {request{path: "/calls", header: map[string]string{"Authorization": "Bearer " + secret + "s"}}, 401},
		"token as a user":         {request{path: "/calls", header: map[string]string{"Authorization": "Basic " + secret}}, 401},
		"bearer":                  {request{path: "/calls", header: map[string]string{"Authorization": "Bearer " + secret}}, 200},
		"bearer in lower case":    {request{path: "/calls", header: map[string]string{"Authorization": "bearer " + secret}}, 200},
		"cookie":                  {request{path: "/calls", cookie: cookie}, 200},
		"another cookie":          {request{path: "/calls", cookie: &http.Cookie{Name: cookie.Name, Value: secret}}, 401},
		"unknown page":            {request{path: "/x", cookie: cookie}, 404},
		"other method":            {request{path: "/calls", method: http.MethodDelete, cookie: cookie}, 404},
		"click of another site":   {request{path: "/events/1", method: http.MethodPost, cookie: cookie, header: cross}, 403},
		"login by another site":   {request{path: "/login", method: http.MethodPost, form: "token=" + secret, header: cross}, 403},
		"origin of another site":  {request{path: "/logout", method: http.MethodPost, cookie: cookie, header: map[string]string{"Origin": "http://evil.example"}}, 403},
		"logout by a link":        {request{path: "/logout", cookie: cookie}, 404},
		"login by a link":         {request{path: "/login?token=" + secret}, 200}, // which is the form
		"form that is too large":  {request{path: "/login", method: http.MethodPost, form: "to=" + strings.Repeat("x", 1<<20) + "&token=" + secret}, 401},
	} {
		answer := test.to(c)
		if answer.StatusCode != test.want {
			t.Errorf("%s: %s, want %d", name, answer.Status, test.want)
		}
		for header, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := answer.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		if got := answer.Header.Get("Cache-Control"); got != "no-store" && !strings.HasPrefix(test.path, "/assets/") {
			t.Errorf("%s: Cache-Control is %q", name, got)
		}
		if got := answer.Cookies(); len(got) > 0 {
			t.Errorf("%s: a cookie %s", name, got[0])
		}
	}
	if answer := (request{path: "/logout", method: http.MethodPost, cookie: cookie}).to(c); answer.StatusCode != http.StatusSeeOther {
		t.Error("logout:", answer.Status)
	}
	if answer := (request{path: "/calls", cookie: cookie}).to(c); answer.StatusCode != http.StatusUnauthorized {
		t.Error("after the logout:", answer.Status)
	}
	proxied := request{method: http.MethodPost, path: "/login", form: "token=" + secret, header: map[string]string{"X-Forwarded-Proto": "https"}}
	if cookies := proxied.to(c).Cookies(); len(cookies) != 1 || !cookies[0].Secure {
		t.Errorf("behind a proxy with TLS the cookies are %s", cookies)
	}
	if text := log.String(); strings.Contains(text, secret) || !log.Has("a login to the console failed") || !log.Has("login to the console", "client=") {
		t.Error("the log has\n", text)
	}
}

// TestConsole_manySessions ends the oldest session when there are more than 256.
func TestConsole_manySessions(t *testing.T) {
	t.Parallel()
	c, _ := newConsole(t, func(o *console.Options) { o.Token = secret })
	var sessions []*http.Cookie
	for range 257 {
		sessions = append(sessions, logIn(t, c))
	}
	for i, want := range map[int]int{0: http.StatusUnauthorized, 1: http.StatusOK, 256: http.StatusOK} {
		if answer := (request{path: "/calls", cookie: sessions[i]}).to(c); answer.StatusCode != want {
			t.Errorf("session %d: %s, want %d", i, answer.Status, want)
		}
	}
}

// TestConsole_loginTargets goes nowhere else after a login.
func TestConsole_loginTargets(t *testing.T) {
	t.Parallel()
	c, _ := newConsole(t, func(o *console.Options) { o.Token = secret })
	for to, want := range map[string]string{
		"/calls?since=1h": "/calls?since=1h", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "/login": "/", "": "/",
	} {
		answer := request{method: http.MethodPost, path: "/login", form: url.Values{"token": {secret}, "to": {to}}.Encode()}.to(c)
		if got := answer.Header.Get("Location"); got != want {
			t.Errorf("%q: to %q, want %q", to, got, want)
		}
	}
	for range 20 {
		request{method: http.MethodPost, path: "/login", form: "token=x"}.to(c)
	}
	if answer := (request{method: http.MethodPost, path: "/login", form: "token=x"}).to(c); answer.StatusCode != http.StatusTooManyRequests {
		t.Error("many failures:", answer.Status)
	}
	logIn(t, c) // the right token still opens it
}

// TestConsole_getChangesNothing holds personal data back from a GET, and from a process
// that does not allow it.
func TestConsole_getChangesNothing(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{true, false} {
		log := &bridgetest.Log{}
		c, js := newConsole(t, func(o *console.Options) { o.ShowPII, o.Logger = allowed, log.Logger() })
		event := `{"id":"1","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c-1","operationContext":"+15551234567"}}`
		if _, err := js.Publish(t.Context(), "acs.contoso.CallConnected.a.c-1", []byte(event)); err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			answer := request{method: method, path: "/events/1?personal=1"}.to(c)
			text, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			shown := strings.Contains(string(text), "15551234567")
			if want := allowed && method == http.MethodPost; shown != want {
				t.Errorf("%s, allowed %t: shown %t, %s", method, allowed, shown, answer.Status)
			}
			if logged := log.Has("the console shows personal data", "sequence=1", "client="); logged != shown {
				t.Errorf("%s, allowed %t: shown %t, logged %t", method, allowed, shown, logged)
			}
		}
	}
}
