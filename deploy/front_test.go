//go:build unix

package deploy_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// inFront are the three commands of docs/consuming.md that put the bridge in front of an
// application.
var inFront = regexp.MustCompile(`(?m)^    (acsbridge serve .*)\n    (\(umask .*)\n    (acsbridge deliver .*)$`)

// TestConsuming_bridgeInFront types the three commands, and sends a callback: the
// application gets it at its own URL, signed.
func TestConsuming_bridgeInFront(t *testing.T) {
	commands := inFront.FindStringSubmatch(read(t, "docs/consuming.md"))
	if commands == nil {
		t.Fatal("the page does not have the commands")
	}
	type got struct {
		url    string
		body   []byte
		header http.Header
	}
	posts := make(chan got, 1)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		posts <- got{r.URL.String(), body, r.Header}
	}))
	t.Cleanup(app.Close)
	server := natstest.Start(t)
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })

	dir := t.TempDir()
	shell := func(command string, variables ...string) (*exec.Cmd, *bridgetest.Log) {
		log := new(bridgetest.Log)
		command = strings.Replace(command, "acsbridge ", "exec "+binary+" ", 1)
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "NATS_URL=" + server.URL(), "ACSBRIDGE_ADMIN_LISTEN=127.0.0.1:0"}, variables...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if cmd.ProcessState == nil {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				_ = cmd.Wait()
			}
			if t.Failed() {
				t.Log(log)
			}
		})
		return cmd, log
	}
	_, bridge := shell(commands[1], "ACSBRIDGE_LISTEN=127.0.0.1:0", "ACSBRIDGE_DATA_DIR="+dir+"/data", "ACSBRIDGE_ISSUER="+issuer.Name(), "ACSBRIDGE_OIDC_CONFIG_URL="+issuer.MetadataURL())
	if secret, log := shell(commands[2]); secret.Wait() != nil {
		t.Fatal(log)
	}
	callbacks := awaitText(t, bridge, `"?callbacks"?[=:]"?(http://[^\s"]+)`)
	// The page says what an application on this host needs.
	_, deliver := shell(strings.Replace(commands[3], "https://app.example.net", app.URL, 1) + " --allow-private --admin-listen 127.0.0.1:0")
	natstest.Until(t, func() bool { return deliver.Count("slot was taken") == 16 })

	audience := regexp.MustCompile(`--resource \w+=(\S+)`).FindStringSubmatch(commands[1])[1]
	caller, err := acstest.NewCaller(acstest.CallerOptions{Target: callbacks, Signer: issuer, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	call := acstest.NewCall()
	event, err := call.NewEvent("CallConnected")
	if err != nil {
		t.Fatal(err)
	}
	if a := caller.Send(t.Context(), call.Callback(event)); a.Status != http.StatusOK {
		t.Fatalf("the bridge answered %d, %v", a.Status, a.Err)
	}
	post := <-posts
	if !regexp.MustCompile(`^/api/callbacks/[0-9a-f-]{36}\?callerId=`).MatchString(post.url) || post.header.Get("webhook-signature") == "" || !bytes.Contains(post.body, []byte(event.ID)) {
		t.Errorf("the application got %s with %v\n%s", post.url, post.header, post.body)
	}
}

// awaitText waits until a log has a match, and returns its first group.
func awaitText(t *testing.T, log *bridgetest.Log, pattern string) (found string) {
	t.Helper()
	natstest.Until(t, func() bool {
		match := regexp.MustCompile(pattern).FindStringSubmatch(log.String())
		if match != nil {
			found = match[1]
		}
		return match != nil
	})
	return found
}
