package acstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// DemoResource and DemoAudience name the simulated Communication Services
// resource, as in --resource demo=AUDIENCE. The audience is an invented immutable
// resource id.
const (
	DemoResource = "demo"
	DemoAudience = "5aba7c7e-ac50-4de0-9f00-0acab0a7de00"
)

// defaultLeg is the side of a call that the application answered.
const defaultLeg = "app"

// dotNetEpoch is 1970-01-01 in .NET ticks of 100 ns, the unit of the times in
// a serverCallId.
const dotNetEpoch = 621_355_968_000_000_000

// areaCodes are real; the numbers 555-0100 to 555-0199 are reserved for fiction in
// each of them (North American Numbering Plan).
var areaCodes = []int{206, 212, 312, 415, 425}

// SimCall is one simulated call: its ids, its participants and the connections
// of its legs. All ids are random, so that two runs never share an event. It is not
// safe for concurrent use.
type SimCall struct {
	serverCallID   string
	correlationID  string
	caller         string // E.164
	recordingStart time.Time
	legs           map[string]leg
	values         map[string]any // of $name in a template
}

// leg is one connection of a call. The application set its callback URL when it
// answered or dialled.
type leg struct {
	connectionID string
	path         string
	query        string
}

// NewCall returns a call between two invented participants.
func NewCall() *SimCall {
	c := &SimCall{
		serverCallID:  newServerCallID(),
		correlationID: uuid.NewString(),
		caller:        newPhoneNumber(),
		legs:          make(map[string]leg),
	}
	c.values = map[string]any{
		"$caller":       phoneNumber(c.caller),
		"$callee":       phoneNumber(newPhoneNumber()),
		"$app":          newUser(),
		"$agent":        newUser(),
		"$recordingId":  newRecordingID(c.leg(recorderLeg).connectionID),
		"$invitationId": uuid.NewString(),
		"$dialogId":     uuid.NewString(),
		"$otherCall":    uuid.NewString(),
	}
	return c
}

// NewCallOf is [NewCall] with this callConnectionId for the application's connection.
// The recorder still has its own.
func NewCallOf(connectionID string) *SimCall {
	c := NewCall()
	l := c.leg(defaultLeg)
	l.connectionID = connectionID
	c.legs[defaultLeg] = l
	return c
}

// leg returns the named leg of the call, made on first use. Its callback URL
// follows Microsoft's quickstarts: a GUID in the path, the caller in the query.
func (c *SimCall) leg(name string) leg {
	l, ok := c.legs[name]
	if !ok {
		l = leg{
			connectionID: uuid.NewString(),
			path:         uuid.NewString(),
			query:        "callerId=" + url.QueryEscape(c.caller),
		}
		c.legs[name] = l
	}
	return l
}

// value returns the value of a template's $name in an event of this source and time.
func (c *SimCall) value(name, source string, at time.Time) (any, error) {
	switch name {
	case "$source":
		return source, nil
	case "$recordingStart":
		if c.recordingStart.IsZero() {
			c.recordingStart = at
		}
		return formatTime(c.recordingStart), nil
	}
	v, ok := c.values[name]
	if !ok {
		return nil, fmt.Errorf("unknown value %s", name)
	}
	return v, nil
}

// identifier is a participant in the form ACS writes it. Exactly one of the
// last two is set.
type identifier struct {
	RawID             string       `json:"rawId"`
	Kind              string       `json:"kind"`
	CommunicationUser *userID      `json:"communicationUser,omitempty"`
	PhoneNumber       *numberValue `json:"phoneNumber,omitempty"`
}

type userID struct {
	ID string `json:"id"`
}

type numberValue struct {
	Value string `json:"value"`
}

func phoneNumber(number string) identifier {
	return identifier{RawID: "4:" + number, Kind: "phoneNumber", PhoneNumber: &numberValue{number}}
}

// newUser returns a Communication Services user: the resource's id, then one
// of the user's own.
func newUser() identifier {
	id := "8:acs:" + DemoAudience + "_00000024" + uuid.NewString()[8:]
	return identifier{RawID: id, Kind: "communicationUser", CommunicationUser: &userID{id}}
}

func newPhoneNumber() string {
	area := areaCodes[rand.IntN(len(areaCodes))]
	return fmt.Sprintf("+1%d55501%02d", area, rand.IntN(100))
}

// newServerCallID returns a handle as ACS makes it: the base64 of a URL inside the
// service, here of a host under .example.
func newServerCallID() string {
	conversation := uuid.New()
	u := fmt.Sprintf("https://api.flightproxy.example/api/v2/cp/conv-simulated-01.example/conv/%s?i=10-60-%d-%d&e=%d",
		base64.RawURLEncoding.EncodeToString(conversation[:]),
		rand.IntN(256), rand.IntN(256), dotNetEpoch+time.Now().UnixNano()/100)
	return base64.StdEncoding.EncodeToString([]byte(u))
}

// newRecordingID returns the base64 of a JSON object that names the recorder's
// connection, without padding.
func newRecordingID(connectionID string) string {
	text, err := json.Marshal(struct{ PlatformEndpointId, ResourceSpecificId string }{
		connectionID, uuid.NewString(),
	})
	if err != nil {
		panic(err) // two strings always encode
	}
	return base64.RawStdEncoding.EncodeToString(text)
}

// formatTime writes a time as ACS does: UTC as +00:00, and up to seven digits
// of a second without trailing zeros.
func formatTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.9999999-07:00")
}
