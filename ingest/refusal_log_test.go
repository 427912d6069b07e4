package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

const foreignGUID = "5aba7c7e-0f0b-4a57-9a1d-3f8f1c0b7d10"

// refused is a handler with the issuers of both routes, in a synctest bubble.
type refused struct {
	t      *testing.T
	h      *ingest.Handler
	issuer *acstest.Issuer
	log    *logRecorder
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
		r := &refused{t: t, issuer: issuer, log: &logRecorder{}, reg: prometheus.NewRegistry()}
		config.Verifier, config.Logger, config.Registerer = callbacks, slog.New(r.log), r.reg
		if config.EventGrid == nil {
			config.EventGrid = grid()
			config.EventGrid.Keys, config.EventGrid.Verifier = nil, entra
		}
		r.h = newHandler(t, config)
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

// TestRefusalLog_everyKind has every kind of refusal once. Each must be logged within
// five seconds, once, with its remedy, and without anything private.
func TestRefusalLog_everyKind(t *testing.T) {
	keyed := ingest.Config{CallbackKeys: []ingest.CallbackKey{{Name: "new", Secret: goodKey}}}
	ranged := ingest.Config{SourceRanges: ranges("198.51.100.0/24")}
	proxied := ingest.Config{SourceRanges: ranges("198.51.100.0/24"), TrustedProxies: ranges("192.0.2.0/24")}
	gridKeyed := ingest.Config{EventGrid: grid()}
	none := ingest.Config{}
	reasons := map[verify.Reason]bool{verify.TokenReused: true} // TestRefusalLog_tokenReused
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
		{"bad_algorithm", none, 401, acstest.TokenSpec{Forge: acstest.ForgeHMAC}, nil, "alg is not RS256, and no token that was checked has a good signature: "},
		{"unknown_key", none, 401, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}, nil, "--oidc-config-url"},
		{"bad_signature", none, 401, acstest.TokenSpec{Forge: acstest.ForgeKey}, nil, "the sender is not ACS, or something on the way changes the token"},
		{"expired", none, 401, acstest.TokenSpec{Lifetime: -588 * time.Second}, nil, "a token signed by ACS was refused: it expired 9m48s ago: check this host's clock"},
		{"expired", none, 401, acstest.TokenSpec{Lifetime: -588 * time.Second, Forge: acstest.ForgeKey}, nil, "exp is past, and no token that was checked has a good signature: check this host's clock"},
		{"not_yet_valid", none, 401, acstest.TokenSpec{Claims: map[string]any{"nbf": time.Date(2000, 1, 1, 0, 10, 8, 0, time.UTC).Unix(), "iat": nil}}, nil, "it is not valid before 9m48s from now: check this host's clock"},
		{"lifetime_too_long", none, 401, acstest.TokenSpec{Lifetime: 24 * time.Hour}, nil, "it lives 24h0m0s: check this host's clock"},
		{"wrong_issuer", none, 401, acstest.TokenSpec{Issuer: "https://PRIVATE.example"}, nil, "was refused: iss is not a configured issuer: check --issuer and --oidc-config-url"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: strings.ToUpper(foreignGUID)}, nil,
			"a token signed by ACS names audience " + foreignGUID + ", configured are " + audience + ", " + gridApplication +
				"; add it only if it is the immutable id of a resource of yours: any ACS customer's token has a good signature"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: "PRIVATE"}, nil, "a token signed by ACS names an audience that is not a GUID, configured are "},
		{"wrong_audience", none, 401, acstest.TokenSpec{Claims: map[string]any{"aud": []string{audience, gridApplication}}}, nil, "which are several of --resource"},
		{"wrong_audience", none, 401, acstest.TokenSpec{Audience: foreignGUID, Forge: acstest.ForgeKey}, nil, "no token that was checked has a good signature: most likely the sender is not ACS"},
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
		{"media_type", none, 415, acstest.TokenSpec{}, header("Content-Encoding", "gzip"), "media type or encoding is not accepted: a proxy in front"},
		{"too_large", none, 413, acstest.TokenSpec{}, func(r *http.Request) { r.ContentLength = ingest.MaxBody + 1 }, "a body has 256 KiB at most"},
		{"incomplete", none, 503, acstest.TokenSpec{}, func(r *http.Request) { r.ContentLength++ }, "body ended early: a proxy in front"},
		{"not_cloudevents", none, 400, acstest.TokenSpec{}, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		}, "the token or key was good, but the body is not accepted: it is kept: see \"acsbridge quarantine list\""},
		{"missing_token", none, 401, acstest.TokenSpec{}, func(r *http.Request) { toEventGrid(r); r.Header.Del("Authorization") }, "--eventgrid-audience"},
		{"wrong_application", none, 401, entraSpec(map[string]any{"appid": foreignGUID}), toEventGrid,
			"a token signed by Microsoft Entra ID was issued to the application " + foreignGUID + ", configured with --eventgrid-app are " + verify.EventGridApplication},
		{"wrong_application", none, 401, entraSpec(map[string]any{"appid": "PRIVATE"}), toEventGrid, "--eventgrid-app"},
		{"wrong_audience", none, 401, entraSpec(map[string]any{"aud": foreignGUID}), toEventGrid,
			"a token signed by Microsoft Entra ID names audience " + foreignGUID + ", configured are " + gridApplication + "; add it to --eventgrid-audience only if"},
		{"eventgrid_key", gridKeyed, 401, acstest.TokenSpec{}, toEventGrid, "the URL has no acsbridge-key: the endpoint of the subscription must have the acsbridge-key of an --eventgrid-key"},
		{"unknown_source", none, 400, entraSpec(nil), toEventGrid, "--eventgrid-source"},
	} {
		reasons[verify.Reason(test.reason)] = true
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
				private := r.log.text() + fmt.Sprint(r.h.Activity())
				lines := r.log.take(test.reason)
				if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["refused"] != "1" || !strings.Contains(lines[0]["cause"], test.want) {
					r.t.Fatalf("got %v, want one line with %q", lines, test.want)
				}
				if body := test.code == 400 || test.code == 503 || test.code == 413 || test.code == 415; body && strings.Contains(lines[0]["cause"], "signed") {
					r.t.Errorf("the token was good: %s", lines[0]["cause"])
				}
				for _, word := range []string{"PRIVATE", "CONTEXT", "eyJ", goodKey, "192.0.2.1", "c-42"} {
					if strings.Contains(private, word) {
						r.t.Errorf("%s is logged: %s", word, private)
					}
				}
				a := r.h.Activity()
				if len(a.Refused) != 1 || a.Refused[0].Reason != test.reason || a.Refused[0].Count != 1 || a.Refused[0].Text != lines[0]["cause"] {
					r.t.Errorf("activity: %+v", a)
				}
				time.Sleep(10 * time.Minute)
				if again := r.log.take(test.reason); len(again) != 0 {
					r.t.Errorf("logged again: %v", again)
				}
			})
		})
	}
	for _, reason := range verify.Reasons() {
		if !reasons[reason] {
			t.Errorf("no refusal has the reason %s", reason)
		}
	}
}
