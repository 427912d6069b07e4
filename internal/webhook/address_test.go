package webhook_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/webhook"
)

// TestRestricted_addresses connects by addresses; only the first error counts that is not
// about the rule.
func TestRestricted_addresses(t *testing.T) {
	for _, test := range []struct {
		address string
		rule    webhook.Restricted
		want    error
	}{
		{"127.0.0.1", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"127.8.9.10", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"[::1]", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"10.1.2.3", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"172.16.0.1", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"192.168.1.1", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"100.64.0.1", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"[fd00::1]", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"[::ffff:10.0.0.1]", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"[64:ff9b::10.0.0.1]", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"[2002:a00:1::]", webhook.Restricted{}, webhook.ErrPrivateAddress},
		{"169.254.169.254", webhook.Restricted{Private: true}, webhook.ErrLinkLocal},
		{"[fe80::1]", webhook.Restricted{Private: true}, webhook.ErrLinkLocal},
		{"[::ffff:169.254.169.254]", webhook.Restricted{Private: true}, webhook.ErrLinkLocal},
		{"[ff02::1]", webhook.Restricted{Private: true}, webhook.ErrLinkLocal},
		{"203.0.113.7", webhook.Restricted{Private: true, Plaintext: true}, webhook.ErrPublicPlaintext},
	} {
		request, err := http.NewRequest(http.MethodPost, "https://"+test.address+":1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		a := webhook.Client{Transport: test.rule.Transport(1)}.Do(t.Context(), request)
		if !errors.Is(a.Err, test.want) {
			t.Errorf("%s with %+v: %v, want %v", test.address, test.rule, a, test.want)
		}
	}
}

// TestRestricted_name posts to a name, which only the resolver knows to be this host.
func TestRestricted_name(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	post := func(rule webhook.Restricted, to string) webhook.Answer {
		target, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		request, err := webhook.NewRequest(target, webhook.ContentType, []byte("[]"), "")
		if err != nil {
			t.Fatal(err)
		}
		return webhook.Client{Transport: rule.Transport(1)}.Do(t.Context(), request)
	}
	if a := post(webhook.Restricted{Roots: roots}, "https://localhost:"+port); !errors.Is(a.Err, webhook.ErrPrivateAddress) {
		t.Errorf("not allowed: %v", a)
	}
	if a := post(webhook.Restricted{Roots: roots, Private: true}, server.URL); !a.OK() {
		t.Errorf("allowed: %v", a)
	}
	if a := post(webhook.Restricted{Private: true}, server.URL); a.Status != 0 || !strings.Contains(a.String(), "certificate") {
		t.Errorf("certificate of an unknown authority: %v", a)
	}
	if (webhook.Restricted{}).Transport(1).Proxy != nil {
		t.Error("a proxy, which would resolve names itself, is used without Private")
	}
}
