package schemas

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Timestamp is a date and time as it was sent. By CloudEvents it is RFC 3339: ACS
// writes up to seven digits of a second and +00:00, Event Grid Z. [Timestamp.Time]
// also reads forms that deviate from it.
type Timestamp string

// looseTime is a date and time of RFC 3339, or one that deviates from it in a way
// that ISO 8601 has as well: lower case, a space for the T, no seconds, a comma
// before the fraction, an offset without a colon or without minutes, no offset.
var looseTime = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+-]\d\d)(?::?(\d\d))?)?$`)

var errNoTime = errors.New("not a date and time")

// Time returns the moment. Without an offset it is UTC; a leap second, :60, is the
// second before it, since Go has none; 24:00:00 is midnight at the end of the day.
// Digits after the ninth of a second are cut. An empty timestamp, or one that
// names no moment, is an error.
func (t Timestamp) Time() (time.Time, error) {
	if at, ok := strictTime(string(t)); ok {
		return at, nil
	}
	parts := looseTime.FindStringSubmatch(string(t))
	if parts == nil {
		return time.Time{}, errNoTime
	}
	date, clock, second, fraction, hours, minutes := parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]
	switch second {
	case "":
		second = "00"
	case "60":
		second = "59"
	}
	if fraction != "" {
		second += "." + fraction
	}
	endOfDay := clock == "24:00" && strings.Trim(second, "0.") == ""
	if endOfDay {
		clock = "00:00"
	}
	offset := "Z"
	if hours != "" {
		offset = hours + ":" + (minutes + "00")[:2]
	}
	at, ok := strictTime(date + "T" + clock + ":" + second + offset)
	if !ok {
		return time.Time{}, errNoTime
	}
	if endOfDay {
		at = at.AddDate(0, 0, 1)
	}
	return at, nil
}

// RFC3339 returns the timestamp as RFC 3339, with at most nine digits of a second:
// as it was sent if it has that form already. It is not ok when the timestamp
// names no moment.
func (t Timestamp) RFC3339() (text string, ok bool) {
	if _, ok := strictTime(string(t)); ok && len(t) <= len("2006-01-02T15:04:05.123456789+00:00") {
		return string(t), true
	}
	at, err := t.Time()
	if err != nil {
		return "", false
	}
	return at.Format(time.RFC3339Nano), true
}

// strictTime reads RFC 3339 in upper case. package time also takes a comma.
func strictTime(s string) (at time.Time, ok bool) {
	err := at.UnmarshalText([]byte(s))
	return at, err == nil && !strings.Contains(s, ",")
}
