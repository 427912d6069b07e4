package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/consume"
)

// actions has ACS do something in a call: once, however often it is asked with one id.
type actions interface {
	do(ctx context.Context, call, action, id string, body object) error
}

// printer stands in for ACS: it prints what would be asked.
type printer struct{ io.Writer }

func (p printer) do(_ context.Context, call, action, _ string, _ object) error {
	_, err := fmt.Fprintln(p, call, action)
	return err
}

// client makes requests of Call Automation.
// https://learn.microsoft.com/rest/api/communication/callautomation/call-connection
type client struct {
	http.Client
	endpoint string
	key      []byte
}

const apiVersion = "2024-09-15"

// newClient reads a connection string: endpoint=https://…;accesskey=…
func newClient(connection string) (*client, error) {
	c := &client{}
	for part := range strings.SplitSeq(connection, ";") {
		var err error
		switch name, value, _ := strings.Cut(part, "="); strings.ToLower(name) {
		case "endpoint":
			c.endpoint = strings.TrimRight(value, "/")
		case "accesskey":
			c.key, err = base64.StdEncoding.DecodeString(value)
		}
		if err != nil {
			return nil, fmt.Errorf("the access key is not base64: %w", err)
		}
	}
	if u, err := url.Parse(c.endpoint); err != nil || u.Host == "" || len(c.key) == 0 {
		return nil, fmt.Errorf("the connection string is not endpoint=https://…;accesskey=…")
	}
	return c, nil
}

func (c *client) do(ctx context.Context, call, action, id string, body object) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return consume.Permanent(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost,
		c.endpoint+"/calling/callConnections/"+url.PathEscape(call)+":"+action+"?api-version="+apiVersion, bytes.NewReader(payload))
	if err != nil {
		return consume.Permanent(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Repeatability-Request-ID", id)
	r.Header.Set("Repeatability-First-Sent", time.Now().UTC().Format(http.TimeFormat))
	c.sign(r, payload)
	answer, err := c.Do(r)
	if err != nil {
		return err // tried again, with the same id
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is used again
	err = fmt.Errorf("ACS answered %s to %s", answer.Status, action)
	switch {
	case answer.StatusCode < 300, answer.StatusCode == http.StatusNotFound: // the call is over
		return nil
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode >= 500:
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // without it: the service's own pause
		return consume.RetryAfter(err, time.Duration(seconds)*time.Second)
	}
	return consume.Permanent(err)
}

// sign signs a request with the access key.
// https://learn.microsoft.com/azure/communication-services/tutorials/hmac-header-tutorial
func (c *client) sign(r *http.Request, payload []byte) {
	sum := sha256.Sum256(payload)
	content, date := base64.StdEncoding.EncodeToString(sum[:]), time.Now().UTC().Format(http.TimeFormat)
	mac := hmac.New(sha256.New, c.key)
	fmt.Fprintf(mac, "%s\n%s\n%s;%s;%s", r.Method, r.URL.RequestURI(), date, r.URL.Host, content)
	r.Header.Set("x-ms-date", date)
	r.Header.Set("x-ms-content-sha256", content)
	r.Header.Set("Authorization", "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="+
		base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// object is one of JSON.
type object = map[string]any

func file(prompt string) object { return object{"kind": "file", "file": object{"uri": prompt}} }

func recognize(caller, prompt, operationContext string) object {
	return object{
		"recognizeInputType": "dtmf", "playPrompt": file(prompt), "operationContext": operationContext,
		"recognizeOptions": object{
			"targetParticipant": object{"rawId": caller}, "initialSilenceTimeoutInSeconds": 10,
			"dtmfOptions": object{"maxTonesToCollect": 1},
		},
	}
}

func play(prompt, operationContext string) object {
	return object{"playSources": []object{file(prompt)}, "operationContext": operationContext}
}

func transfer(to string) object { return object{"targetParticipant": object{"rawId": to}} }
