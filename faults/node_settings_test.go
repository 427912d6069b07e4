package faults_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// store changes the store directory of the node from its next start on.
func (n *node) store(dir string) {
	n.t.Helper()
	n.edit(func(text string) string {
		return strings.Replace(text, filepath.Join(n.dir, "store"), filepath.Join(dir, "store"), 1)
	})
}

// edit changes the node's configuration file.
func (n *node) edit(change func(text string) string) {
	n.t.Helper()
	text, err := os.ReadFile(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		n.t.Fatalf("%s does not have the text to change", n.config)
	}
	if err := os.WriteFile(n.config, []byte(changed), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// reload makes the running node read its configuration again.
func (n *node) reload() {
	n.t.Helper()
	n.process.signal(syscall.SIGHUP)
	if _, err := n.process.awaitLine("Reloaded server configuration", natsStarts); err != nil {
		n.t.Fatal(err)
	}
}
