// Package proxytest runs real reverse proxies in front of servers of a test, with
// the configurations that the project ships.
package proxytest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// startWithin bounds the start of a proxy, which takes a fraction of a second.
const startWithin = 30 * time.Second

// nginxMain is the nginx.conf of Debian with one process, and with all files in the
// test's directory.
const nginxMain = `daemon off;
master_process off;
pid DIR/nginx.pid;
error_log stderr warn;
events {}
http {
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	access_log off;
	include DIR/site.conf;
}
`

// Nginx runs nginx with a site, as in a file of conf.d, until the test ends. Without
// nginx the test is skipped. ready is an address on which it then listens.
func Nginx(t testing.TB, site, ready string) {
	t.Helper()
	binary, dir := find(t, "nginx", "nginx-light"), t.TempDir()
	write(t, dir, "site.conf", site)
	config := write(t, dir, "nginx.conf", strings.ReplaceAll(nginxMain, "DIR", dir))
	run(t, exec.Command(binary, "-p", dir, "-e", "stderr", "-c", config), ready)
}

// HAProxy runs HAProxy with a whole configuration, as Nginx does.
func HAProxy(t testing.TB, config, ready string) {
	t.Helper()
	binary := find(t, "haproxy", "haproxy")
	run(t, exec.Command(binary, "-db", "-f", write(t, t.TempDir(), "haproxy.cfg", config)), ready)
}

// Shipped returns a configuration of the repository, each old text in it replaced
// by the new one that follows. It must have each.
func Shipped(t testing.TB, file string, oldNew ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldNew); i += 2 {
		if !bytes.Contains(text, []byte(oldNew[i])) {
			t.Fatalf("%s has no %q, which the test replaces", file, oldNew[i])
		}
	}
	return strings.NewReplacer(oldNew...).Replace(string(text))
}

// find returns the path of a program, also where the PATH of a user ends before
// Debian's directory for daemons.
func find(t testing.TB, name, debian string) string {
	t.Helper()
	for _, file := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	t.Skipf("there is no %s in PATH or /usr/sbin, so it is not tried; apt-get install --no-install-recommends %s", name, debian)
	return ""
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts a proxy, waits until it listens and stops it when the test ends.
func run(t testing.TB, cmd *exec.Cmd, ready string) {
	t.Helper()
	var said bridgetest.Log
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(startWithin):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, said.String())
		}
	})
	for end := time.Now().Add(startWithin); ; {
		conn, err := net.Dial("tcp", ready)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", cmd.Path, err, said.String())
		case <-time.After(20 * time.Millisecond):
			if time.Now().After(end) {
				t.Fatal(fmt.Errorf("%s does not listen: %w", cmd.Path, err))
			}
		}
	}
}
