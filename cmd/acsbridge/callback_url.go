package main

import (
	"fmt"
	"net/url"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// withCallbackKey returns a callback URL with the key in the file added to its
// query, as an application gives it to ACS. No file means no key.
func withCallbackKey(target, file string) (string, error) {
	if file == "" {
		return target, nil
	}
	secret, err := secretfile.Read(file)
	if err == nil {
		err = ingest.CallbackKey{Name: "file", Secret: secret}.Check()
	}
	if err != nil {
		return "", fmt.Errorf("--callback-key-file: %w", err)
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", fmt.Errorf("target: %w", err)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += ingest.KeyParameter + "=" + secret
	return u.String(), nil
}

// callbackKeyFlag is the flag for a command that is suggested, with
// a space before it.
func callbackKeyFlag(file string) string {
	if file == "" {
		return ""
	}
	return " --callback-key-file " + file
}
