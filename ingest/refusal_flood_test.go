package ingest_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
)

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

// TestRefusalLog_ignoresScanners has requests that cannot have been callbacks.
func TestRefusalLog_ignoresScanners(t *testing.T) {
	config := ingest.Config{SourceRanges: ranges("198.51.100.0/24")}
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
		if a := r.h.Activity(); len(r.log.messages()) > 0 || !a.LastCallback.IsZero() || !a.LastRefused.IsZero() {
			r.t.Errorf("logged %s, activity %+v", r.log.text(), a)
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

// TestRefusalLog_findsSignedTokens sends junk that is refused for the same reason, from
// the same address and from others, before and after a token with a good signature.
func TestRefusalLog_findsSignedTokens(t *testing.T) {
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
				if tokens, _ := r.h.RefusedTokens(); tokens > 32 {
					r.t.Fatalf("%d tokens are held", tokens)
				}
				time.Sleep(time.Second)
			}
		}
		flooded(2)
		if _, checks := r.h.RefusedTokens(); checks > 2 {
			r.t.Errorf("%d signatures were checked in two seconds", checks)
		}
		flooded(2)
		if lines := r.log.take("wrong_audience"); len(lines) != 1 {
			r.t.Errorf("%d lines", len(lines))
		}
		flooded(20)
		if _, checks := r.h.RefusedTokens(); checks > 22 {
			r.t.Errorf("%d signatures were checked in 21 seconds", checks)
		}
		time.Sleep(2 * time.Minute)
		if tokens, _ := r.h.RefusedTokens(); tokens > 0 {
			r.t.Errorf("%d tokens are held long after", tokens)
		}
	})
}

// TestRefusalLog_keepsTokensOfAllClients floods the tokens that are held: the token of
// another client or group must be kept, and within one kind late tokens must not push
// out all of the early ones, nor be left out.
func TestRefusalLog_keepsTokensOfAllClients(t *testing.T) {
	const many = 4000
	other, acs := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("52.112.0.1")
	var kept []int
	for name, flood := range map[string]func(n int) (client netip.Addr, group uint64){
		"another client":             func(n int) (netip.Addr, uint64) { return other, uint64(n) },
		"another client, alike junk": func(int) (netip.Addr, uint64) { return other, 1 },
		"alike junk of many clients": func(n int) (netip.Addr, uint64) {
			return netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 1
		},
		"alike junk of the same client": func(int) (netip.Addr, uint64) { return acs, 1 },
	} {
		kept = ingest.KeptTokens(many, func(n int) (netip.Addr, uint64) {
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
