package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// menu is the state of a call: whom to ask, and how often that was done.
type menu struct {
	Caller string
	Asked  int
}

const maxAsked = 2

// ivr asks a caller to press a key: 1 is for an agent, others are for the opening hours.
// Without an answer it asks again, and then hangs up.
type ivr struct {
	acs    actions
	wait   time.Duration // for an answer
	agent  string        // raw id, such as 4:+15550100
	prompt func(name string) string
}

func (v *ivr) service() consume.Service[menu] {
	return consume.Service[menu]{Name: "ivr", Handle: v.handle, Types: []string{
		"CallConnected", "RecognizeCompleted", "RecognizeFailed", "PlayCompleted", "PlayFailed", "CallTransferFailed"}}
}

func (v *ivr) handle(ctx context.Context, call *consume.Call[menu], m *schemas.Message) error {
	do := func(action string, body object) error {
		return v.acs.do(ctx, call.ID, action, call.EffectID(action), body)
	}
	question := fmt.Sprint("menu-", call.State.Asked) // its operationContext
	switch d := m.Event.Data.(type) {
	case *schemas.CallConnected: // the application has put the caller into the callback URL
		query, _ := url.ParseQuery(m.Delivery.Query)
		call.State.Caller = query.Get("callerId")
	case *schemas.RecognizeCompleted:
		if d.OperationContext != question { // too late
			return nil
		}
		if d.DTMFResult != nil && slices.Equal(d.DTMFResult.Tones, []schemas.Tone{"one"}) {
			return do("transferToParticipant", transfer(v.agent))
		}
		return do("play", play(v.prompt("opening-hours")))
	case *schemas.RecognizeFailed:
		if d.OperationContext != question {
			return nil
		}
	case *schemas.PlayCompleted, *schemas.PlayFailed, *schemas.CallTransferFailed:
		return do("terminate", object{})
	case *consume.Timeout: // neither of the two has come
	}
	if call.State.Asked == maxAsked {
		return do("terminate", object{})
	}
	call.State.Asked++
	question = fmt.Sprint("menu-", call.State.Asked)
	call.ExpectContext(v.wait, question, "RecognizeCompleted", "RecognizeFailed")
	return do("recognize", recognize(call.State.Caller, v.prompt("menu"), question))
}
