package bridge

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestConsole_deadLetters sends dead letters of a running bridge again, from its console.
func TestConsole_deadLetters(t *testing.T) {
	p := play(t, "--console-token-file="+bridgetest.WriteFile(t, "token", testSecret), "--console-write")
	js := natstest.JetStream(t, p.EmbeddedURL())
	limit := func(size int32) (messages uint64) {
		t.Helper()
		stream, err := js.Stream(t.Context(), schemas.Stream)
		if err == nil {
			config := stream.CachedInfo().Config
			config.MaxMsgSize = size
			_, err = js.UpdateStream(t.Context(), config)
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	limit(100)
	p.calls(1, 20, "rejected")
	limit(-1)
	path := filepath.Join(p.settings.DataDir, "dead-letters.ndjson")
	letters := strings.Count(bridgetest.ReadFile(t, path), "\n")
	ask := func(method, at string, form url.Values) (text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.AdminURL()+at, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testSecret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(page)
	}
	if letters == 0 || len(letterLinks(ask("GET", "/deadletters", nil))) != letters {
		t.Fatalf("%d dead letters, the page is\n%s", letters, ask("GET", "/deadletters", nil))
	}
	version := regexp.MustCompile(`name="version" value="([^"]*)"`)
	for n := range letters {
		at := letterLinks(ask("GET", "/deadletters", nil))[0]
		confirm := version.FindStringSubmatch(ask("GET", at+"?confirm=redrive", nil))
		if confirm == nil {
			t.Fatal("nothing to confirm at", at)
		}
		if text := ask("POST", at, url.Values{"action": {"redrive"}, "version": confirm[1:]}); !strings.Contains(text, "It was sent again and removed here.") {
			t.Fatalf("redrive %d:\n%s", n, text)
		}
	}
	if _, err := os.Stat(path + ".taken"); !os.IsNotExist(err) {
		t.Error("the empty file is there:", err)
	}
	if got := limit(-1); got != uint64(letters) {
		t.Errorf("the stream has %d events, want %d", got, letters)
	}
	p.calls(1, 20, "rejected")
	if got := limit(-1); got != uint64(2*letters) {
		t.Errorf("the stream has %d events after another call, want %d", got, 2*letters)
	}
	if text := ask("GET", "/deadletters", nil); !strings.Contains(text, "None here.") {
		t.Error("the page is\n", text)
	}
}

func letterLinks(page string) (links []string) {
	for _, link := range regexp.MustCompile(`<td><a href="(/deadletters/[^"]*)"`).FindAllStringSubmatch(page, -1) {
		links = append(links, link[1])
	}
	return links
}
