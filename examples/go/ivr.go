package main

import (
	"context"
	"net/url"
	"time"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// menu is the state of a call: whom to ask, and the operationContext of the last question.
type menu struct{ Caller, Question string }

var next = map[string]string{"": "menu", "menu": "menu-again"}

// ivr asks a caller to press a key: 0 is for an agent, others are for the opening hours.
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
	switch d := m.Event.Data.(type) {
	case *schemas.CallConnected: // the application has put the caller into the callback URL
		query, _ := url.ParseQuery(m.Delivery.Query)
		call.State.Caller = query.Get("callerId")
	case *schemas.RecognizeCompleted:
		if d.OperationContext != call.State.Question { // too late
			return nil
		}
		if d.DTMFResult != nil && len(d.DTMFResult.Tones) > 0 && d.DTMFResult.Tones[0] == "zero" {
			return do("transferToParticipant", transfer(v.agent))
		}
		return do("play", play(v.prompt("opening-hours"), "opening-hours"))
	case *schemas.RecognizeFailed:
		if d.OperationContext != call.State.Question {
			return nil
		}
	case *consume.Timeout: // neither of the two has come
	case *schemas.PlayCompleted:
		if d.OperationContext != "opening-hours" {
			return nil
		}
		return do("terminate", object{})
	case *schemas.PlayFailed, *schemas.CallTransferFailed:
		return do("terminate", object{})
	}
	question := next[call.State.Question]
	if question == "" {
		return do("terminate", object{})
	}
	call.State.Question = question
	call.ExpectContext(v.wait, question, "RecognizeCompleted", "RecognizeFailed")
	return do("recognize", recognize(call.State.Caller, v.prompt("menu"), question))
}
