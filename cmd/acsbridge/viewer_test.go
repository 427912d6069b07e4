package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/schemas"
)

// viewed starts a server with the rights of deploy/nats, and a stream with one
// call in it. It returns the settings of a viewer.
func viewed(t *testing.T) []string {
	t.Helper()
	setPasswords(t)
	nats := startConfigured(t, deployedConfig)
	js := nats.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"CallConnected", "CallDisconnected"} {
		event := `{"id":"` + kind + `","source":"calling/callConnections/c-1","type":"Microsoft.Communication.` + kind + `","data":{"callConnectionId":"c-1","correlationId":"0123456789"}}`
		if _, err := js.Publish(t.Context(), "acs.contoso."+kind+".a.c-1", []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	password := bridgetest.WriteFile(t, "password", "of-the-viewer_password\n")
	return []string{"--nats-url", nats.URL(), "--nats-user", "viewer", "--nats-password-file", password, "--nats-domain", "acs", "--nats-inbox-prefix", "_INBOX_viewer"}
}

// runAs runs a command as a viewer and compares what it says with a pattern.
func runAs(t *testing.T, viewer []string, command, want string) {
	t.Helper()
	var out sharedLog
	err := run(t.Context(), append(strings.Fields(command), viewer...), stdio{out: &out, err: &out})
	if said := out.String(); err != nil || !regexp.MustCompile(want).MatchString(said) || strings.Contains(said, "violation") {
		t.Errorf("%s: %v, want %s, got\n%s", command, err, want, said)
	}
}

// TestViewer_readingCommands runs the commands that read with the rights that
// deploy/nats gives to a viewer.
func TestViewer_readingCommands(t *testing.T) {
	viewer := viewed(t)
	for command, want := range map[string]string{
		"tail":                   `(?s)CallConnected .*CallDisconnected `,
		"tail --call c-1":        `(?s)CallConnected .*CallDisconnected `,
		"tail --since seq:2":     `^\S+  CallDisconnected `,
		"tail --output json":     `^\{"stream":"ACS","sequence":1,`,
		"calls":                  `ended .* 2 events   1 leg  CallDisconnected`,
		"call c-1":               `\+0\.\d{3}  A   CallDisconnected`,
		"call --output json c-1": `"sequence":2,`,
	} {
		runAs(t, viewer, command, want)
	}
}

// TestViewer_missingRight names the right.
func TestViewer_missingRight(t *testing.T) {
	args := append([]string{"tail"}, viewed(t)...)
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "viewer", "hangups")
	}
	file := args[len(args)-5]
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("of-the-hangups_password"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	err := run(t.Context(), args, stdio{out: &out, err: &log})
	if err == nil || !strings.Contains(err.Error(), "the right to $JS.API.DIRECT.GET.ACS") || out.Len() > 0 {
		t.Errorf("error %v, output %s", err, out.Bytes())
	}
	if !strings.Contains(log.String(), "permissions violation") {
		t.Errorf("the log does not say what NATS said: %s", log.String())
	}
}
