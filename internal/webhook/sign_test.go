package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/acsbridge/acsbridge/internal/webhook"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgtfaeYxk="
)

func TestSigner_twoSecrets(t *testing.T) {
	signer, err := webhook.NewSigner(newSecret, oldSecret)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`[{"id":"1"}]`)
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	if err := signer.Sign(r, "019cae40-0000-5000-8000-0123456789ab", time.Now(), body); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		secret string
		body   string
		want   bool
	}{
		{oldSecret, string(body), true},
		{newSecret, string(body), true},
		{"whsec_" + strings.Repeat("A", 32), string(body), false},
		{newSecret, `[{"id":"2"}]`, false},
	} {
		receiver, err := standardwebhooks.NewWebhook(test.secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := receiver.Verify([]byte(test.body), r.Header); (err == nil) != test.want {
			t.Errorf("%s with %s: %v", test.body, test.secret, err)
		}
	}
	if signatures := strings.Split(r.Header.Get("webhook-signature"), " "); len(signatures) != 2 {
		t.Errorf("signatures %q", signatures)
	}
}

func TestNewSigner_badSecrets(t *testing.T) {
	for _, secret := range []string{"", "hunter2hunter2hunter2hunter2hunter2", "whsec_", "whsec_aHVudGVyMg==", "whsec_hunter2!", "whsec_" + strings.Repeat("QUJD", 22)} {
		if _, err := webhook.NewSigner(newSecret, secret); err == nil || secret != "" && strings.Contains(err.Error(), strings.TrimPrefix(secret+"?", "whsec_")) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if _, err := webhook.NewSigner(); err == nil {
		t.Error("a signer without a secret")
	}
}
