package bridge

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/verify"
)

// Bounds of the admin listener.
const (
	// maxAdminConnections is ample for probes, scrapes and some people.
	maxAdminConnections  = 256
	adminHeaderTimeout   = 5 * time.Second
	adminReadTimeout     = 10 * time.Second
	adminWriteTimeout    = 30 * time.Second
	adminIdleTimeout     = 60 * time.Second
	maxAdminHeader       = 16 << 10
	adminContentSecurity = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// Admin is the listener for operators of a command that runs for long: probes and
// metrics.
type Admin struct {
	Listen   string   // its address; a request may ask for its host
	Hosts    []string // other names that a request may ask for
	Token    string   // bearer token of operators; empty asks for none
	Registry *prometheus.Registry
	// Ready answers /readyz. Details are for operators.
	Ready func(w http.ResponseWriter, details bool)
	// Check answers [CheckPath] for "acsbridge check"; nil means that it is not there.
	Check  http.Handler
	Logger *slog.Logger
	// Console answers all other paths, with a login of its own; nil when there is none.
	Console http.Handler
}

// Server returns the server, for a listener of [LimitAdmin].
func (a *Admin) Server() *http.Server {
	return &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: adminHeaderTimeout,
		ReadTimeout:       adminReadTimeout,
		WriteTimeout:      adminWriteTimeout,
		IdleTimeout:       adminIdleTimeout,
		MaxHeaderBytes:    maxAdminHeader,
		ErrorLog:          slog.NewLogLogger(lograte.Handler(a.Logger.Handler()), slog.LevelDebug),
		// The guard refuses "OPTIONS *" too; net/http would answer 200.
		DisableGeneralOptionsHandler: true,
	}
}

// LimitAdmin bounds the connections of the listener of an [Admin].
func LimitAdmin(l net.Listener) net.Listener { return netutil.LimitListener(l, maxAdminConnections) }

func (a *Admin) handler() http.Handler {
	hosts := a.Hosts
	if host, _, err := net.SplitHostPort(a.Listen); err == nil {
		hosts = append([]string{host}, hosts...)
	}
	access := newAdminAccess(a.Token, hosts)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { a.Ready(w, access.granted(r)) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	if a.Check != nil {
		mux.Handle(CheckPath, a.Check)
	}
	return access.guard(mux, a.Console)
}

// adminAccess decides which requests to the admin listener are allowed.
type adminAccess struct {
	digest [sha256.Size]byte // of the token
	asks   bool              // for the token
	hosts  []string          // in lower case
}

func newAdminAccess(token string, hosts []string) *adminAccess {
	a := &adminAccess{digest: sha256.Sum256([]byte(token)), asks: token != "", hosts: []string{"localhost"}}
	for _, host := range hosts {
		a.hosts = append(a.hosts, strings.ToLower(host))
	}
	return a
}

// guard answers the requests that next must not see, and sets the headers of every answer.
// Paths that are none of next's are the console's, which has access and headers of its own.
// The probes are open to all: what asks them seldom has a place for a secret,
// and an unauthenticated client learns no more than whether the bridge works.
func (a *adminAccess) guard(next *http.ServeMux, console http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", adminContentSecurity)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		probe := r.URL.Path == "/livez" || r.URL.Path == "/readyz"
		_, own := next.Handler(r)
		switch {
		case !a.allowsHost(r.Host):
			http.Error(w, "this name is not among admin-host", http.StatusMisdirectedRequest)
		case console != nil && own == "":
			console.ServeHTTP(w, r)
		case !probe && !a.granted(r):
			h.Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// granted reports whether a request may see everything.
func (a *adminAccess) granted(r *http.Request) bool {
	if !a.asks {
		return true
	}
	token, err := verify.BearerToken(r.Header["Authorization"])
	digest := sha256.Sum256([]byte(token))
	return err == nil && subtle.ConstantTimeCompare(digest[:], a.digest[:]) == 1
}

// allowsHost reports whether a Host header is one by which operators ask. A page in
// an operator's browser can have its own name resolve to our address, and then
// reads our answers as its own (DNS rebinding). It cannot do so without a name:
// an address is never looked up, so any address passes, and so does no name,
// which no browser sends ("acsbridge health" does for :9090).
func (a *adminAccess) allowsHost(host string) bool {
	name := host
	if split, _, err := net.SplitHostPort(host); err == nil {
		name = split
	}
	if name == "" || net.ParseIP(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")) != nil {
		return true
	}
	return slices.Contains(a.hosts, strings.ToLower(strings.TrimSuffix(name, ".")))
}
