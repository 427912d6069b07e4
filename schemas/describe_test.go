package schemas_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestType_Describe shows one type whole.
func TestType_Describe(t *testing.T) {
	event, ok := schemas.LookupType("ContinuousDtmfRecognitionToneReceived")
	if !ok {
		t.Fatal("the type is unknown")
	}
	d := event.Describe()
	var got []string
	for _, object := range append([]schemas.Object{d.Data}, d.Objects...) {
		for _, f := range object.Fields {
			got = append(got, strings.Join([]string{object.Name, f.Name, f.Type, f.PII}, " "))
		}
	}
	want := []string{
		"ContinuousDtmfRecognitionToneReceived sequenceId integer ",
		"ContinuousDtmfRecognitionToneReceived tone text said",
		"ContinuousDtmfRecognitionToneReceived eventSource text link",
		"ContinuousDtmfRecognitionToneReceived operationContext text context",
		"ContinuousDtmfRecognitionToneReceived resultInformation ResultInformation ",
		"ContinuousDtmfRecognitionToneReceived callConnectionId text link",
		"ContinuousDtmfRecognitionToneReceived serverCallId text link",
		"ContinuousDtmfRecognitionToneReceived correlationId text link",
		"ContinuousDtmfRecognitionToneReceived version text ",
		"ContinuousDtmfRecognitionToneReceived publicEventType text ",
		"ResultInformation code integer ",
		"ResultInformation subCode integer ",
		"ResultInformation message text text",
		"ResultInformation sipDetails Diagnostic ",
		"ResultInformation q850Details Diagnostic ",
		"Diagnostic code integer ",
		"Diagnostic message text text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if known := d.Data.Fields[1].Known; len(known) != 16 || known[15] != string(schemas.ToneAsterisk) {
		t.Errorf("known tones %v", known)
	}
}

// TestType_Describe_everyType checks that every type says when it comes, and every member
// what it is.
func TestType_Describe_everyType(t *testing.T) {
	for _, event := range schemas.Types() {
		d := event.Describe()
		if !strings.HasPrefix(d.When, "when ") || strings.HasSuffix(d.When, ".") || !json.Valid(d.Example) {
			t.Errorf("%s comes %q, example %.20s", event.Name, d.When, d.Example)
		}
		for _, object := range append([]schemas.Object{d.Data}, d.Objects...) {
			for _, f := range object.Fields {
				if f.Type == "" || !strings.HasSuffix(f.About, ".") {
					t.Errorf("%s: %s is %q: %q", object.Name, f.Name, f.Type, f.About)
				}
			}
		}
	}
}
