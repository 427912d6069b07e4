package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

const foreignGUID = "5aba7c7e-0f0b-4a57-9a1d-3f8f1c0b7d10"

// counts returns the values of a counter that are not zero, by its labels' values.
func counts(t *testing.T, reg prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); f.GetName() == name && v != 0 {
				values[strings.Join(labels, " ")] = v
			}
		}
	}
	return values
}

// warnings keeps the lines at info and above, as their attributes by name.
type warnings struct {
	mu   sync.Mutex
	list []map[string]string
}

func (w *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler               { return w }
func (w *warnings) WithGroup(string) slog.Handler                    { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	line := map[string]string{"level": r.Level.String(), "message": r.Message}
	r.Attrs(func(a slog.Attr) bool {
		line[a.Key] = a.Value.String()
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, line)
	return nil
}

// take returns the lines of a reason since the last call, and forgets all.
func (w *warnings) take(reason string) (lines []map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.list {
		if line["reason"] == reason {
			lines = append(lines, line)
		}
	}
	w.list = nil
	return lines
}

// refused is a handler with the issuers of both routes, in a bubble of its own.
type refused struct {
	t      *testing.T
	h      *ingest.Handler
	issuer *acstest.Issuer
	log    *warnings
	reg    *prometheus.Registry
}

// inBubble runs a test with the handler. Its keys are held.
func inBubble(t *testing.T, config ingest.Config, test func(r *refused)) {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: key(t)})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		callbacks, err := verify.New(verify.Config{
			Issuer: issuer.Name(), MetadataURL: issuer.MetadataURL(), Transport: issuer.Transport(), TokenReuse: verify.ReuseRefuse,
			Resources: []verify.Resource{{Name: "contoso", Audience: audience}, {Name: "fabrikam", Audience: gridApplication}},
		})
		if err != nil {
			t.Fatal(err)
		}
		profile := &verify.Entra{Tenant: gridTenant, Issuers: []string{issuer.Name()}, Audiences: []string{gridApplication}}
		entra, err := verify.New(verify.Config{Entra: profile, MetadataURL: issuer.MetadataURL(), Transport: issuer.Transport()})
		if err != nil {
			t.Fatal(err)
		}
		var loops sync.WaitGroup
		loops.Go(func() { _ = callbacks.Run(ctx) })
		loops.Go(func() { _ = entra.Run(ctx) })
		r := &refused{t: t, issuer: issuer, log: &warnings{}, reg: prometheus.NewRegistry()}
		config.Verifier, config.Logger, config.Registerer = callbacks, slog.New(r.log), r.reg
		if config.EventGrid == nil {
			config.EventGrid = grid()
			config.EventGrid.Keys, config.EventGrid.Verifier = nil, entra
		}
		r.h = handler(t, config)
		time.Sleep(20 * time.Second) // an unknown key is certain only some time after a fetch
		defer loops.Wait()
		defer stop()
		test(r)
	})
}

// post sends a callback with a token, changed.
func (r *refused) post(spec acstest.TokenSpec, change ...func(*http.Request)) int {
	r.t.Helper()
	if spec.Audience == "" {
		spec.Audience = audience
	}
	token, err := r.issuer.Sign(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	request := callback(defaultBody)
	request.URL.Path += "/PATH-OF-A-CONTEXT"
	request.URL.RawQuery = "callerId=QUERY-OF-A-CONTEXT"
	request.Header.Set("Authorization", "Bearer "+token)
	for _, f := range change {
		f(request)
	}
	return serve(r.h, request).Code
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func path(path string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Path = path }
}

func toEventGrid(r *http.Request) { r.URL.Path, r.URL.RawQuery = "/eventgrid", "" }

// entraSpec is a good token of Event Grid, changed.
func entraSpec(claims map[string]any) acstest.TokenSpec {
	all := map[string]any{"appid": verify.EventGridApplication}
	for name, value := range claims {
		all[name] = value
	}
	return acstest.TokenSpec{Audience: gridApplication, Lifetime: 24 * time.Hour, Claims: all}
}

// TestRefusalLog has every kind of refusal once. Each must be said within five
// seconds, once, with what cures it, and without anything private.
func TestRefusalLog(t *testing.T) {
	keyed := ingest.Config{CallbackKeys: []ingest.CallbackKey{{Name: "new", Secret: goodKey}}}
	ranged := ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24")}
	proxied := ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24"), TrustedProxies: ranges(t, "192.0.2.0/24")}
	gridKeyed := ingest.Config{EventGrid: grid()}
	none := ingest.Config{}
	for _, test := range []struct {
		reason string
		config ingest.Config
		code   int
		spec   acstest.TokenSpec
		change func(*http.Request)
		want   string
	}{
		{"missing_token", none, 401, acstest.TokenSpec{}, header("Authorization"), "no authorization header: a proxy in front that drops the Authorization header"},
		{"missing_token", none, 401, acstest.TokenSpec{}, header("Authorization", "Basic eDp5"), "the authorization is not a bearer token: a proxy in front"},
		{"malformed_token", none, 401, acstest.TokenSpec{}, header("Authorization", "Bearer a", "Bearer b"), "more than one authorization header: a proxy in front"},
		{"malformed_token", none, 401, acstest.TokenSpec{Claims: map[string]any{"exp": nil}}, nil, "a request with a token signed by ACS was refused: no exp: "},
		{"unsupported_header", none, 401, acstest.TokenSpec{Header: map[string]any{"typ": "dpop+jwt"}}, nil, "a request with a token signed by ACS was refused: typ names another kind of token: the sender is not ACS, or ACS has changed"},
		{"bad_algorithm", none, 401, acstest.TokenSpec{Forge: acstest.ForgeHMAC}, nil, "alg is not RS256, and no token that was looked at has a good signature: "},
		{"unknown_key", none, 401, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}, nil, "--oidc-config-url"},
		{"bad_signature", none, 401, acstest.TokenSpec{Forge: acstest.ForgeKey}, nil, "the sender is not ACS, or something on the way changes the token"},
		{"expired", none, 401, acstest.TokenSpec{Lifetime: -588 * time.Second}, nil, "a token signed by ACS was refused: it expired 9m48s ago: check this host's clock"},
		{"expired", none, 401, acstest.TokenSpec{Lifetime: -588 * time.Second, Forge: acstest.ForgeKey}, nil, "exp is past, and no token that was looked at has a good signature: check this host's clock"},
		{"not_yet_valid", none, 401, acstest.TokenSpec{Claims: map[string]any{"nbf": time.Date(2000, 1, 1, 0, 10, 8, 0, time.UTC).Unix(), "iat": nil}}, nil, "it is not valid before 9m48s from now: check this host's clock"},
		{"lifetime_too_long", none, 401, acstest.TokenSpec{Lifetime: 24 * time.Hour}, nil, "it lives 24h0m0s: check this host's clock"},
		{"wrong_issuer", none, 401, acstest.TokenSpec{Issuer: "https://PRIVATE.example"}, nil, "was refused: iss is not a configured issuer: check --issuer and --oidc-config-url"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: strings.ToUpper(foreignGUID)}, nil,
			"a token signed by ACS names audience " + foreignGUID + ", configured are " + audience + ", " + gridApplication +
				"; add it only if it is the immutable id of a resource of yours: any ACS customer's token is well signed"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: "PRIVATE"}, nil, "a token signed by ACS names an audience that is not a GUID, configured are "},
		{"wrong_audience", none, 401, acstest.TokenSpec{Claims: map[string]any{"aud": []string{audience, gridApplication}}}, nil, "which are several of --resource"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: foreignGUID, Forge: acstest.ForgeKey}, nil, "no token that was looked at has a good signature: most likely the sender is not ACS"},
		{"callback_key", keyed, 401, acstest.TokenSpec{}, nil, "a request with a token signed by ACS was refused: the URL has no acsbridge-key: the callback URL that the application gives to ACS must have the acsbridge-key of a --callback-key"},
		{"callback_key", keyed, 401, acstest.TokenSpec{}, func(r *http.Request) { r.URL.RawQuery = "acsbridge-key=PRIVATE" }, "the callback URL has no good key"},
		{"callback_key", keyed, 401, acstest.TokenSpec{}, func(r *http.Request) { r.URL.RawQuery = "acsbridge-key=PRIVATE&acsbridge-key=PRIVATE" }, "more than one acsbridge-key"},
		{"source_range", ranged, 403, acstest.TokenSpec{}, nil, "a request with a token signed by ACS was refused: the sender's address is in no source range: check --source-range; behind a proxy, name it with --trusted-proxy"},
		{"source_range", proxied, 403, acstest.TokenSpec{}, header("X-Forwarded-For", "unknown"), "a trusted proxy sends no X-Forwarded-For that ends with the client's address"},
		{"not_found", none, 404, acstest.TokenSpec{}, path("/PRIVATE"), "a request with a token signed by ACS was refused: the path is neither --callback-path nor below it: compare the callback URL"},
		{"not_found", none, 404, acstest.TokenSpec{}, func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/callbacks/a/b", "/callbacks/a%2Fb" }, "has %2F, %5C"},
		{"not_found", keyed, 404, acstest.TokenSpec{}, func(r *http.Request) {
			r.URL.Path, r.URL.RawQuery = "/", "acsbridge-key="+goodKey
			r.Header.Del("Authorization")
		}, "the path is neither"},
		{"method", none, 405, acstest.TokenSpec{}, func(r *http.Request) { r.Method = http.MethodGet }, "turns POST into GET"},
		{"media_type", none, 415, acstest.TokenSpec{}, header("Content-Encoding", "gzip"), "media type or encoding is not taken: a proxy in front"},
		{"too_large", none, 413, acstest.TokenSpec{}, func(r *http.Request) { r.ContentLength = ingest.MaxBody + 1 }, "a body has 256 KiB at most"},
		{"incomplete", none, 503, acstest.TokenSpec{}, func(r *http.Request) { r.ContentLength++ }, "body ended early: a proxy in front"},
		{"not_cloudevents", none, 400, acstest.TokenSpec{}, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		}, "a body behind a good token or key is not one that is taken: it is kept: see \"acsbridge quarantine list\""},
		{"missing_token", none, 401, acstest.TokenSpec{}, func(r *http.Request) { toEventGrid(r); r.Header.Del("Authorization") }, "--eventgrid-audience"},
		{"wrong_application", none, 401, entraSpec(map[string]any{"appid": foreignGUID}), toEventGrid,
			"a token signed by Microsoft Entra ID was issued to the application " + foreignGUID + ", configured with --eventgrid-app are " + verify.EventGridApplication},
		{"wrong_application", none, 401, entraSpec(map[string]any{"appid": "PRIVATE"}), toEventGrid, "--eventgrid-app"},
		{"wrong_audience", none, 401, entraSpec(map[string]any{"aud": foreignGUID}), toEventGrid,
			"a token signed by Microsoft Entra ID names audience " + foreignGUID + ", configured are " + gridApplication + "; add it to --eventgrid-audience only if"},
		{"eventgrid_key", gridKeyed, 401, acstest.TokenSpec{}, toEventGrid, "the URL has no acsbridge-key: the endpoint of the subscription must have the acsbridge-key of an --eventgrid-key"},
		{"unknown_source", none, 400, entraSpec(nil), toEventGrid, "--eventgrid-source"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			inBubble(t, test.config, func(r *refused) {
				change := test.change
				if change == nil {
					change = func(*http.Request) {}
				}
				if code := r.post(test.spec, change); code != test.code {
					r.t.Fatalf("answered %d, want %d", code, test.code)
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				private := fmt.Sprint(r.log.list, r.h.Activity())
				lines := r.log.take(test.reason)
				if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["refused"] != "1" || !strings.Contains(lines[0]["cause"], test.want) {
					r.t.Fatalf("got %v, want one line with %q", lines, test.want)
				}
				if body := test.code == 400 || test.code == 503 || test.code == 413 || test.code == 415; body && strings.Contains(lines[0]["cause"], "signed") {
					r.t.Errorf("the token was good: %s", lines[0]["cause"])
				}
				for _, word := range []string{"PRIVATE", "CONTEXT", "eyJ", goodKey, "192.0.2.1", "c-42"} {
					if strings.Contains(private, word) {
						r.t.Errorf("%s is said: %s", word, private)
					}
				}
				a := r.h.Activity()
				if len(a.Refused) != 1 || a.Refused[0].Reason != test.reason || a.Refused[0].Count != 1 || a.Refused[0].Text != lines[0]["cause"] {
					r.t.Errorf("activity: %+v", a)
				}
				time.Sleep(10 * time.Minute)
				if again := r.log.take(test.reason); len(again) != 0 {
					r.t.Errorf("said again: %v", again)
				}
			})
		})
	}
}

// TestRefusalLog_refusedClient has one client refused for the tokens of another
// behind the same address.
func TestRefusalLog_refusedClient(t *testing.T) {
	inBubble(t, ingest.Config{}, func(r *refused) {
		public := func(r *http.Request) { r.RemoteAddr = "198.51.100.7:1" }
		for range 50 {
			r.post(acstest.TokenSpec{Forge: acstest.ForgeKey}, public)
		}
		if code := r.post(acstest.TokenSpec{}, public); code != 503 {
			r.t.Errorf("answered %d", code)
		}
		time.Sleep(5 * time.Second)
		if lines := r.log.take("refused_client"); len(lines) != 1 || !strings.Contains(lines[0]["cause"], "a request with a token signed by ACS was refused: too many tokens of this client were refused: behind a proxy on a public address, name it with --trusted-proxy") {
			r.t.Errorf("got %v", lines)
		}
	})
}

// TestRefusalLog_tokenReused is apart, for it takes two requests.
func TestRefusalLog_tokenReused(t *testing.T) {
	inBubble(t, ingest.Config{}, func(r *refused) {
		spec := acstest.TokenSpec{Claims: map[string]any{"jti": "one"}}
		r.post(spec)
		r.post(spec, func(request *http.Request) { request.Body, request.ContentLength = callback("[]").Body, 2 })
		time.Sleep(5 * time.Second)
		if lines := r.log.take("token_reused"); len(lines) != 1 || !strings.Contains(lines[0]["cause"], "--token-reuse") {
			r.t.Errorf("got %v", lines)
		}
	})
}

// TestRefusalLog_isQuietAboutStrangers has requests that look for other things than
// callbacks.
func TestRefusalLog_isQuietAboutStrangers(t *testing.T) {
	config := ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24")}
	get := func(r *http.Request) { r.Method = http.MethodGet }
	without := header("Authorization")
	outside := func(r *http.Request) { r.RemoteAddr = "203.0.113.1:1" }
	inside := func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" }
	inBubble(t, config, func(r *refused) {
		for code, changes := range map[int][]func(*http.Request){
			404: {inside, without, path("/wp-login.php")},
			405: {inside, without, get},
			403: {outside, without, path("/wp-login.php")},
		} {
			if got := r.post(acstest.TokenSpec{}, changes...); got != code {
				r.t.Errorf("answered %d, want %d", got, code)
			}
		}
		r.post(acstest.TokenSpec{}, inside, get, path("/x")) // 404, and not a POST
		time.Sleep(5 * time.Second)
		if a := r.h.Activity(); len(r.log.list) > 0 || !a.LastCallback.IsZero() || !a.LastRefused.IsZero() {
			r.t.Errorf("said %v, activity %+v", r.log.list, a)
		}
		r.post(acstest.TokenSpec{}, outside, without) // to the callback path
		time.Sleep(5 * time.Second)
		if lines := r.log.take("source_range"); len(lines) != 1 {
			r.t.Errorf("a callback from elsewhere: %v", lines)
		}
	})
}

// TestRefusalLog_writesALineAMinute counts what many refusals come to.
func TestRefusalLog_writesALineAMinute(t *testing.T) {
	inBubble(t, ingest.Config{}, func(r *refused) {
		const refusals = 200
		for range refusals {
			r.post(acstest.TokenSpec{Audience: foreignGUID})
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		total := 0
		lines := r.log.take("wrong_audience")
		for _, line := range lines {
			n, err := strconv.Atoi(line["refused"])
			if err != nil {
				r.t.Fatal(err)
			}
			total += n
		}
		if len(lines) != 5 || total != refusals {
			r.t.Errorf("%d lines about %d refusals, want 5 about %d", len(lines), total, refusals)
		}
	})
}

// TestRefusalLog_namesWhatIsSigned has strangers send junk that is refused for the
// same reason, from the same address and from others, before and after a token that
// ACS has signed.
func TestRefusalLog_namesWhatIsSigned(t *testing.T) {
	of := func(address string) func(*http.Request) {
		return func(r *http.Request) { r.RemoteAddr = address + ":1" }
	}
	for name, test := range map[string]struct {
		junk   func(n int) acstest.TokenSpec
		from   func(n int) string
		reason string
		good   acstest.TokenSpec
		of     string // its address
		want   string
	}{
		"one address": {
			func(int) acstest.TokenSpec { return acstest.TokenSpec{Audience: gridTenant, Forge: acstest.ForgeKey} }, func(int) string { return "127.0.0.1" },
			"wrong_audience", acstest.TokenSpec{Audience: foreignGUID}, "127.0.0.1", "audience " + foreignGUID,
		},
		"keys of its own": {
			func(int) acstest.TokenSpec {
				return acstest.TokenSpec{Audience: uuid.NewString(), Forge: acstest.ForgeUnknownKid}
			}, func(int) string { return "127.0.0.1" },
			"wrong_audience", acstest.TokenSpec{Audience: foreignGUID}, "127.0.0.1", "audience " + foreignGUID,
		},
		"another address": {
			func(int) acstest.TokenSpec {
				return acstest.TokenSpec{Audience: uuid.NewString(), Forge: acstest.ForgeKey}
			}, func(int) string { return "198.51.100.1" },
			"wrong_audience", acstest.TokenSpec{Audience: foreignGUID}, "52.112.0.1", "audience " + foreignGUID,
		},
		"another reason": {
			func(int) acstest.TokenSpec { return acstest.TokenSpec{Claims: map[string]any{"aud": 7}} }, func(int) string { return "127.0.0.1" },
			"expired", acstest.TokenSpec{Lifetime: -time.Hour}, "127.0.0.1", "it expired 1h0m",
		},
		"other dates": {
			func(n int) acstest.TokenSpec {
				return acstest.TokenSpec{Lifetime: -2 * time.Hour, Forge: acstest.ForgeKey}
			}, func(int) string { return "127.0.0.1" },
			"expired", acstest.TokenSpec{Lifetime: -time.Hour}, "127.0.0.1", "it expired 1h0m",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, ingest.Config{}, func(r *refused) {
				for n := range 60 {
					r.post(test.junk(n), of(test.from(n)))
				}
				time.Sleep(10 * time.Second) // the junk has its line
				good := 0
				for n := range 4 * 5 {
					for range 3 {
						r.post(test.junk(n), of(test.from(n)))
					}
					if n%4 == 0 {
						r.post(test.good, of(test.of))
						good++
					}
					time.Sleep(time.Second / 4)
				}
				time.Sleep(time.Second)
				lines := r.log.take(test.reason)
				if !slices.ContainsFunc(lines, func(line map[string]string) bool { return strings.Contains(line["cause"], test.want) }) {
					r.t.Errorf("no line in five seconds about the signed token: %v", lines)
				}
				if len(lines) > 2 {
					r.t.Errorf("%d lines: %v", len(lines), lines)
				}
			})
		})
	}
}

// TestRefusalLog_isBounded floods it with tokens of many clients.
func TestRefusalLog_isBounded(t *testing.T) {
	inBubble(t, ingest.Config{}, func(r *refused) {
		var junk []string
		for range 100 {
			spec := acstest.TokenSpec{Audience: uuid.NewString(), Forge: acstest.ForgeKey, Claims: map[string]any{"pad": strings.Repeat("x", 1000)}}
			token, err := r.issuer.Sign(spec)
			if err != nil {
				r.t.Fatal(err)
			}
			junk = append(junk, token)
		}
		flooded := func(seconds int) {
			for range seconds {
				for n := range 300 {
					request := from(fmt.Sprintf("198.51.100.%d:1", n%70))
					request.Header.Set("Authorization", "Bearer "+junk[n%len(junk)])
					serve(r.h, request)
				}
				if tokens, _ := r.h.Suspects(); tokens > 32 {
					r.t.Fatalf("%d tokens are held", tokens)
				}
				time.Sleep(time.Second)
			}
		}
		flooded(2)
		if _, checks := r.h.Suspects(); checks > 2 {
			r.t.Errorf("%d signatures were checked in two seconds", checks)
		}
		flooded(2)
		if lines := r.log.take("wrong_audience"); len(lines) != 1 {
			r.t.Errorf("%d lines", len(lines))
		}
		flooded(20)
		if _, checks := r.h.Suspects(); checks > 22 {
			r.t.Errorf("%d signatures were checked in 21 seconds", checks)
		}
		time.Sleep(2 * time.Minute)
		if tokens, _ := r.h.Suspects(); tokens > 0 {
			r.t.Errorf("%d tokens are held long after", tokens)
		}
	})
}

// TestRefusalLog_keepsTokensOfAll floods the tokens that are held: another client, or
// a token about which something else would be said, must keep its place, and within
// one kind late tokens must not push out all of the early ones, nor be left out.
func TestRefusalLog_keepsTokensOfAll(t *testing.T) {
	const many = 4000
	stranger, acs := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("52.112.0.1")
	var kept []int
	for name, flood := range map[string]func(n int) (client netip.Addr, group uint64){
		"another client":             func(n int) (netip.Addr, uint64) { return stranger, uint64(n) },
		"another client, alike junk": func(int) (netip.Addr, uint64) { return stranger, 1 },
		"alike junk of many clients": func(n int) (netip.Addr, uint64) {
			return netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 1
		},
		"alike junk of the same client": func(int) (netip.Addr, uint64) { return acs, 1 },
	} {
		kept = ingest.KeptSuspects(many, func(n int) (netip.Addr, uint64) {
			if n == 3000 {
				return acs, 2
			}
			return flood(n)
		})
		if !slices.Contains(kept, 3000) {
			t.Errorf("%s: the token is gone: %v", name, kept)
		}
	}
	early := 0
	for _, n := range kept {
		if n < many/2 {
			early++
		}
	}
	if len(kept) != 32 || early < 4 || early > 28 { // 16 are to be expected; once in a million it is not among these
		t.Errorf("%d of %d are of the first half", early, len(kept))
	}
}

// TestActivity follows the times and the counts.
func TestActivity(t *testing.T) {
	inBubble(t, ingest.Config{}, func(r *refused) {
		at := func(name string) float64 { return counts(r.t, r.reg, "acsbridge_last_"+name+"_timestamp_seconds")[""] }
		check := func(callback, stored, refused time.Time) {
			r.t.Helper()
			got := r.h.Activity()
			got.Refused = nil
			if diff := cmp.Diff(ingest.Activity{LastCallback: callback, LastStored: stored, LastRefused: refused}, got); diff != "" {
				r.t.Error(diff)
			}
			unix := func(t time.Time) float64 {
				if t.IsZero() {
					return 0
				}
				return float64(t.Unix())
			}
			if at("callback") != unix(callback) || at("stored") != unix(stored) || at("refused") != unix(refused) {
				r.t.Errorf("metrics: %v %v %v", at("callback"), at("stored"), at("refused"))
			}
		}
		check(time.Time{}, time.Time{}, time.Time{})
		first := time.Now()
		r.post(acstest.TokenSpec{})
		check(first, first, time.Time{})
		time.Sleep(time.Second)
		asked := time.Now()
		handshake := header("WebHook-Request-Origin", "eventgrid.azure.net")
		if code := r.post(entraSpec(nil), toEventGrid, handshake, func(r *http.Request) { r.Method = http.MethodOptions }); code != 200 {
			r.t.Errorf("handshake: %d", code)
		}
		check(asked, first, time.Time{}) // it has no events
		time.Sleep(time.Second)
		second := time.Now()
		r.post(acstest.TokenSpec{}, header("Authorization"))
		check(second, first, second)
		time.Sleep(ingest.RecentRefusals / 2)
		r.post(acstest.TokenSpec{}, toEventGrid, header("Authorization"))
		r.post(acstest.TokenSpec{}, header("Authorization"))
		recent := func() (list []string) {
			for _, f := range r.h.Activity().Refused {
				list = append(list, fmt.Sprint(f.Route, " ", f.Reason, " ", f.Count))
			}
			return list
		}
		for _, want := range [][]string{{"callbacks missing_token 2", "eventgrid missing_token 1"}, {"callbacks missing_token 1", "eventgrid missing_token 1"}, nil} {
			if diff := cmp.Diff(want, recent()); diff != "" {
				r.t.Error(diff)
			}
			time.Sleep(ingest.RecentRefusals/2 + 10*time.Second)
		}
		r.h.Drain()
		last := time.Now()
		if code := r.post(acstest.TokenSpec{}); code != 503 {
			r.t.Errorf("draining: %d", code)
		}
		refused := r.h.Activity().LastRefused
		check(last, first, refused) // it may come again
		if refused.Equal(last) {
			r.t.Error("503 is taken for a refusal")
		}
	})
}
