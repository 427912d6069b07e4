package schemas_test

import (
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestTimestamp(t *testing.T) {
	for sent, want := range map[schemas.Timestamp]string{ // RFC 3339, empty for none
		"2026-03-01T12:00:00Z":                      "2026-03-01T12:00:00Z",
		"2026-03-01T12:00:00.1234567+00:00":         "2026-03-01T12:00:00.1234567+00:00",
		"2026-03-01T12:00:00.12345678901234567890Z": "2026-03-01T12:00:00.123456789Z",
		"2026-03-01T12:00:00-00:00":                 "2026-03-01T12:00:00-00:00",
		"2026-03-01T12:00:00":                       "2026-03-01T12:00:00Z",
		"2026-03-01T12:00:00.5":                     "2026-03-01T12:00:00.5Z",
		"2026-03-01t12:00:00z":                      "2026-03-01T12:00:00Z",
		"2026-03-01T12:00:00.25z":                   "2026-03-01T12:00:00.25Z",
		"2026-03-01t12:00:00+05:30":                 "2026-03-01T12:00:00+05:30",
		"2026-03-01 12:00:00Z":                      "2026-03-01T12:00:00Z",
		"2026-03-01 12:00:00":                       "2026-03-01T12:00:00Z",
		"2026-03-01T12:00Z":                         "2026-03-01T12:00:00Z",
		"2026-03-01T12:00:00,123Z":                  "2026-03-01T12:00:00.123Z",
		"2026-03-01T12:00:00,1234567891":            "2026-03-01T12:00:00.123456789Z",
		"2026-03-01T12:00:00+0530":                  "2026-03-01T12:00:00+05:30",
		"2026-03-01T12:00:00-08":                    "2026-03-01T12:00:00-08:00",
		"2016-12-31T23:59:60Z":                      "2016-12-31T23:59:59Z",
		"2016-12-31T23:59:60.25Z":                   "2016-12-31T23:59:59.25Z",
		"2016-12-31T18:59:60-05:00":                 "2016-12-31T18:59:59-05:00",
		"2016-12-31t23:59:60z":                      "2016-12-31T23:59:59Z",
		"2026-02-28T24:00:00Z":                      "2026-03-01T00:00:00Z",
		"2026-12-31T24:00:00.000":                   "2027-01-01T00:00:00Z",
		"2026-03-01T12:00.5Z":                       "", // half a minute by ISO 8601
		"":                                          "",
		"soon":                                      "",
		"2026-03-01":                                "",
		"12:00:00Z":                                 "",
		"1772366400":                                "",
		"2026-02-30T12:00:00Z":                      "",
		"2026-13-01T12:00:00Z":                      "",
		"2026-03-01T25:00:00Z":                      "",
		"2026-03-01T24:00:01Z":                      "",
		"2026-03-01T24:00:00.1Z":                    "",
		"2026-03-01T12:60:00Z":                      "",
		"2026-03-01T12:00:61Z":                      "",
		"2026-03-01T12:00:00+25:00":                 "",
		"2026-03-01T12:00:00.Z":                     "",
		"2026-03-01T12:00:00Z\r\nNats-Rollup: all":  "",
		"2026-03-01T12:00:00Z+01:00":                "",
		"0000-00-00T00:00:00Z":                      "",
	} {
		got, ok := sent.RFC3339()
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", sent, got, ok, want)
		}
		at, err := sent.Time()
		if (err == nil) != ok {
			t.Errorf("%q: time %v, error %v", sent, at, err)
		}
		if again, err := time.Parse(time.RFC3339Nano, want); ok && (err != nil || !at.Equal(again)) {
			t.Errorf("%q: time %v, want %v", sent, at, again)
		}
	}
}

// FuzzTimestamp holds what is read to RFC 3339, and reads it the same again.
func FuzzTimestamp(f *testing.F) {
	for _, s := range append([]string{"2016-12-31t23:59:60.5z", "2026-02-28 24:00,0", "2026-03-01T12:00:00,1+0530"}, hostile...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, ok := schemas.Timestamp(s).RFC3339()
		at, err := schemas.Timestamp(s).Time()
		if ok != (err == nil) {
			t.Fatalf("%q: %v, %v", s, ok, err)
		}
		if !ok {
			return
		}
		var again time.Time
		if err := again.UnmarshalText([]byte(text)); err != nil || !again.Equal(at) {
			t.Fatalf("%q: %q is %v, want %v (%v)", s, text, again, at, err)
		}
	})
}
