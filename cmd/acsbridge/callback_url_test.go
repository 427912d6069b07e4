package main

import (
	"strings"
	"testing"
)

func TestCallbackKey_inURL(t *testing.T) {
	file := writeFile(t, "key", testSecret+"\n")
	for target, want := range map[string]string{
		"http://h/callbacks":           "http://h/callbacks?acsbridge-key=" + testSecret,
		"http://h/callbacks?a=%2B1&b=": "http://h/callbacks?a=%2B1&b=&acsbridge-key=" + testSecret,
	} {
		if got, err := withCallbackKey(target, file); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", target, got, err, want)
		}
		if got, err := withCallbackKey(target, ""); err != nil || got != target {
			t.Errorf("%s without a key: %s, %v", target, got, err)
		}
	}
	for _, bad := range []string{file + "x", writeFile(t, "short", testSecret[1:])} {
		if _, err := withCallbackKey("http://h", bad); err == nil || !strings.Contains(err.Error(), "--callback-key-file: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := withCallbackKey("http://h:x", file); err == nil || strings.Contains(err.Error(), testSecret) {
		t.Errorf("a bad target: %v", err)
	}
}
