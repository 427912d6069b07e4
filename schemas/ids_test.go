package schemas_test

import (
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestNormalizeID_guidsInLowerCase(t *testing.T) {
	const guid = "0e1f2a3b-abcd-4ef0-8333-44445555abcd"
	for id, want := range map[string]string{
		guid: guid, strings.ToUpper(guid): guid, "0E1f2a3b-AbCd-4ef0-8333-44445555abcd": guid,
		"":                                       "",
		"C-42":                                   "C-42",
		"QUJD/REVG==":                            "QUJD/REVG==", // base64 is exact
		"{" + strings.ToUpper(guid) + "}":        "{" + strings.ToUpper(guid) + "}",
		"0E1F2A3B-ABCD-4EF0-8333-44445555ABCG":   "0E1F2A3B-ABCD-4EF0-8333-44445555ABCG",
		"0E1F2A3B-ABCD-4EF0-8333-44445555\x11BC": "0E1F2A3B-ABCD-4EF0-8333-44445555\x11BC",
		"0E1F2A3BAABCD-4EF0-8333-44445555ABCD":   "0E1F2A3BAABCD-4EF0-8333-44445555ABCD",
	} {
		if got := schemas.NormalizeID(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

func TestSubject_guidInEitherCase(t *testing.T) {
	const guid = "0E1F2A3B-ABCD-4EF0-8333-44445555ABCD"
	want := "acs.contoso.CallConnected.4." + strings.ToLower(guid)
	for _, e := range []schemas.Inbound{
		{Type: "CallConnected", CallConnectionID: guid},
		{Type: "CallConnected", Grid: &schemas.GridEvent{CorrelationID: guid}},
	} {
		if got := schemas.Subject("acs", "contoso", &e); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := schemas.CallToken(guid); got != strings.ToLower(guid) {
		t.Errorf("got %s", got)
	}
}

func TestSubjectIDs(t *testing.T) {
	const correlation, server, recording = "9a9b9c9d-0000-4111-8222-333344445555", "c2Vy/dmVy+L2Nh==", "cmVj/LzE+YT1i=="
	for subject, want := range map[string]schemas.CallIDs{
		"/recording/call/" + correlation + "/serverCallId/" + server + "/recordingId/" + recording: {"", server, correlation},
		"recording/call/" + correlation + "/serverCallId/" + server:                                {"", server, correlation},
		"/recording/call/" + correlation + "/recordingId/" + recording:                             {"", "", correlation},
		"/recording/call/" + correlation:                                                           {"", "", correlation},
		"call/" + server:                                                                           {"", server, ""},
		"/call/" + server + "/startedBy/4:+15550100":                                               {"", server, ""},
		"call/" + server + "/participant/8:acs:x_y":                                                {"", server, ""},
		"call/" + server + "/endedBy/8:acs:x_y":                                                    {"", server, ""},
		"/caller/4:+15550100/recipient/4:+15550101":                                                {},
		"calling/callConnections/c-42":                                                             {},
		"":                                                                                         {},
	} {
		if got := schemas.SubjectIDs(subject); got != want {
			t.Errorf("%s: got %+v, want %+v", subject, got, want)
		}
	}
}

// TestEvent_IDs: data goes before the subject, and GUIDs are in lower case.
func TestEvent_IDs(t *testing.T) {
	const lower, upper = "9a9b9c9d-0000-4111-8222-3333abcdef55", "9A9B9C9D-0000-4111-8222-3333ABCDEF55"
	const subject = `"subject":"/recording/call/` + upper + `/serverCallId/U/2==/recordingId/r="`
	for payload, want := range map[string]schemas.CallIDs{
		`{"type":"Microsoft.Communication.RecordingFileStatusUpdated",` + subject + `,"data":{"recordingId":"r="}}`:                                         {"", "U/2==", lower},
		`{"eventType":"Microsoft.Communication.RecordingFileStatusUpdated",` + subject + `}`:                                                                {"", "U/2==", lower},
		`{"type":"Microsoft.Communication.RecordingFileStatusUpdated",` + subject + `,"data":{"correlationId":null,"serverCallId":""}}`:                     {"", "U/2==", lower},
		`{"type":"Microsoft.Communication.RecordingFileStatusUpdated",` + subject + `,"data":{"correlationId":"K","serverCallId":"S"}}`:                     {"", "S", "K"},
		`{"type":"Microsoft.Communication.CallConnected","data":{"callConnectionId":"` + upper + `","serverCallId":"ABC","correlationId":"` + upper + `"}}`: {lower, "ABC", lower},
	} {
		m, err := schemas.Parse(nil, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Event.IDs(); got != want {
			t.Errorf("%s: got %+v, want %+v", payload, got, want)
		}
	}
}
