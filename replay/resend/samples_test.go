package resend_test

import (
	"regexp"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
)

// TestRedactor_samples redacts recorded events, and searches for telephone numbers and
// for the ids of users and calls. Only file names are printed.
func TestRedactor_samples(t *testing.T) {
	redactor := resend.NewRedactor([]byte("key"))
	personal := regexp.MustCompile(`\+[0-9]{7,}|8:(acs|orgid):[0-9a-f-]{8,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	found := 0
	for _, body := range fixtures.Read(t, "*.json") {
		for _, event := range body.Events {
			m, err := redactor.Message(&replay.StoredMessage{Sequence: 1, Subject: "acs.contoso.X.d._", Header: nats.Header{}, Data: event})
			if err != nil {
				continue // some samples are not JSON on purpose
			}
			left := make(map[string]bool)
			for _, text := range personal.FindAllString(string(m.Data), -1) {
				left[text] = true
			}
			for _, text := range personal.FindAllString(string(event), -1) {
				if found++; left[text] {
					t.Errorf("%s: a number or an id is left", body.Name)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no sample has a number or an id")
	}
}
