package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	cookieName = "acsbridge_console"
	// sessionLife is a working day, and maxSessions the people of a team with some
	// browsers each. The oldest session ends when there are more.
	sessionLife = 12 * time.Hour
	maxSessions = 256
	// Logins that failed, of all clients together: the token cannot be guessed, but each
	// is a line of the log.
	failuresPerSecond, failureBurst = 1, 10
)

// contentSecurity allows the files of this package and the forms alone.
const contentSecurity = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// access decides who sees the pages.
type access struct {
	digest   [sha256.Size]byte // of the token
	asks     bool              // for the token
	crossing *http.CrossOriginProtection
	failures *rate.Limiter
	logger   *slog.Logger

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]time.Time // when each ends, by the digest of its cookie
}

func newAccess(token string, logger *slog.Logger) access {
	return access{
		digest: sha256.Sum256([]byte(token)), asks: token != "", crossing: http.NewCrossOriginProtection(),
		failures: rate.NewLimiter(failuresPerSecond, failureBurst), logger: logger,
		sessions: make(map[[sha256.Size]byte]time.Time),
	}
}

// ServeHTTP answers a request, if its client may ask for that. The listener in front
// checks the host name.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurity)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if err := c.access.crossing.Check(r); err != nil {
		http.Error(w, "a request of another site", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	open := r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/assets/")
	switch {
	case open || c.access.granted(r):
		c.mux.ServeHTTP(w, r)
	case r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"):
		http.Redirect(w, r, loginURL(r), http.StatusSeeOther)
	default:
		h.Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a bearer token is needed, or a login at /login", http.StatusUnauthorized)
	}
}

// granted reports whether a request has the token or the cookie of a session.
func (a *access) granted(r *http.Request) bool {
	if !a.asks {
		return true
	}
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return a.isToken(token)
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.sessions[sha256.Sum256([]byte(cookie.Value))])
}

func (a *access) isToken(token string) bool {
	digest := sha256.Sum256([]byte(token))
	return a.asks && subtle.ConstantTimeCompare(digest[:], a.digest[:]) == 1
}

// begin begins a session and returns its cookie.
func (a *access) begin(secure bool) *http.Cookie {
	value := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) >= maxSessions {
		var oldest [sha256.Size]byte
		for key, ends := range a.sessions {
			if at, ok := a.sessions[oldest]; !ok || ends.Before(at) {
				oldest = key
			}
		}
		delete(a.sessions, oldest)
	}
	a.sessions[sha256.Sum256([]byte(value))] = time.Now().Add(sessionLife)
	// Lax, and not Strict: a link in a chat opens the page. A GET changes nothing.
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: int(sessionLife.Seconds()),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
}

// overTLS reports whether the browser speaks TLS, to us or to the proxy in front. The
// header can only make the cookie stricter.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	c.write(w, r, &page{Title: "Log in", Template: "login", Content: loginForm{To: target(r.FormValue("to"))}})
}

// loginForm is the content of the login page.
type loginForm struct {
	To     string // where to go then
	Failed bool
}

func (c *Console) logIn(w http.ResponseWriter, r *http.Request) {
	to := target(r.PostFormValue("to"))
	if c.Token != "" && !c.access.isToken(strings.TrimSpace(r.PostFormValue("token"))) {
		if !c.access.failures.Allow() {
			w.Header().Set("Retry-After", "2")
			http.Error(w, "too many logins have failed; try again in some seconds", http.StatusTooManyRequests)
			return
		}
		c.Logger.Warn("a login to the console failed", "client", r.RemoteAddr)
		c.write(w, r, &page{Title: "Log in", Template: "login", Content: loginForm{to, true}, Status: http.StatusUnauthorized})
		return
	}
	http.SetCookie(w, c.access.begin(overTLS(r)))
	c.Logger.Info("login to the console", "client", r.RemoteAddr)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (c *Console) logOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		c.access.mu.Lock()
		delete(c.access.sessions, sha256.Sum256([]byte(cookie.Value)))
		c.access.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
