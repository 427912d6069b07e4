package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestHealth asks stand-ins for an admin listener. That nothing listens is in
// testdata/script.
func TestHealth(t *testing.T) {
	tests := []struct {
		name    string
		answer  http.HandlerFunc
		out     string
		failure string
	}{
		{"ready", answer(http.StatusOK, "ready\n"), "ready\n", ""},
		{"escape sequences", answer(http.StatusOK, "keys ok \x1b]52;c;aGk=\a\nstorage ok"), "keys ok ?]52;c;aGk=?\nstorage ok\n", ""},
		{"no body", answer(http.StatusOK, ""), "", ""},
		{"not ready", answer(http.StatusServiceUnavailable, "keys: none yet"), "keys: none yet\n", "not ready: "},
		{"another 2xx", answer(http.StatusNoContent, ""), "", "answered 204 No Content"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "<a href=\"http://127.0.0.1:1/\">Found</a>.\n", "answered 302 Found"},
		{"long body", answer(http.StatusOK, strings.Repeat("x", maxReadyBody+1)), strings.Repeat("x", maxReadyBody) + "\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /readyz", test.answer)
			server := httptest.NewServer(mux)
			defer server.Close()
			// A proxy for everything: health must not ask it.
			t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
			for _, admin := range []string{server.URL, server.URL + "/", server.Listener.Addr().String()} {
				var out bytes.Buffer
				err := run(t.Context(), []string{"health", "--admin", admin}, stdio{out: &out, err: &out})
				if out.String() != test.out {
					t.Errorf("--admin %s printed %q, want %q", admin, out.String(), test.out)
				}
				if test.failure == "" && err != nil || test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)) {
					t.Errorf("--admin %s: error %v, want %q", admin, err, test.failure)
				}
			}
		})
	}
}

// TestHealth_settings checks that health asks where serve has its admin listener, and
// with its token.
func TestHealth_settings(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) }))
	defer server.Close()
	t.Setenv("ACSBRIDGE_ADMIN_LISTEN", server.Listener.Addr().String())
	t.Setenv("ACSBRIDGE_ADMIN_TOKEN_FILE", bridgetest.WriteFile(t, "token", "hunter2\n"))
	var out bytes.Buffer
	if err := run(t.Context(), []string{"health"}, stdio{out: &out, err: &out}); err != nil || out.String() != "Bearer hunter2\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// answer is a handler with a fixed answer.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func TestHealth_address(t *testing.T) {
	for admin, want := range map[string]string{
		"":                            "http://127.0.0.1:9090/readyz",
		"localhost:1":                 "http://localhost:1/readyz",
		"[::1]:9090":                  "http://[::1]:9090/readyz",
		"https://bridge.example/path": "https://bridge.example/path/readyz",
		"ftp://bridge.example":        "",
		"http://":                     "",
		"a b:1":                       "",
	} {
		got, err := (&healthCmd{Admin: admin}).readyURL()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", admin, got, err, want)
		}
	}
}
