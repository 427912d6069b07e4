package schemas

import "slices"

// CallConnected comes when a call is answered, or when the application joins
// one. Two legs of a call that both belong to the application have one each.
type CallConnected struct{ Operation }

// CallDisconnected comes when a leg has ended, for whatever reason, also one
// that was never connected.
type CallDisconnected struct{ Operation }

// CreateCallFailed comes when an outgoing call could not be made.
type CreateCallFailed struct{ Operation }

// AnswerFailed comes when an incoming call could not be answered. Azure Monitor
// calls it AnswerCallFailed.
type AnswerFailed struct{ Operation }

// ConnectFailed comes when the application could not join an ongoing call.
type ConnectFailed struct{ Operation }

// CallTransferAccepted comes when the call was transferred.
type CallTransferAccepted struct {
	// Who the call goes to now (API version 2024-04-15).
	TransferTarget *Identifier `json:"transferTarget"`
	// Who was transferred (API version 2024-04-15).
	Transferee *Identifier `json:"transferee"`
	Operation
}

// CallTransferFailed comes when the call could not be transferred.
type CallTransferFailed struct{ Operation }

// ParticipantsUpdated comes when a participant has joined, left, or was muted or
// put on hold. Order its rosters by sequenceNumber, not by arrival.
type ParticipantsUpdated struct {
	// All participants of the call at that moment.
	Participants []Participant `json:"participants"`
	// Counts the rosters of a callConnectionId, from 0 or 1, with gaps.
	SequenceNumber *int `json:"sequenceNumber"`
	Outcome
}

// readBareIdentifiers reads participants as the API versions of 2021 and 2022 sent them:
// the members of the identifier stood in the participant itself.
func (u *ParticipantsUpdated) readBareIdentifiers(document []byte) {
	missing := func(p Participant) bool { return p.Identifier == nil }
	if !slices.ContainsFunc(u.Participants, missing) {
		return
	}
	var bare struct{ Participants []Identifier }
	_ = unmarshal(document, &bare) // it was read before
	for i := range min(len(u.Participants), len(bare.Participants)) {
		if p := &u.Participants[i]; missing(*p) && bare.Participants[i] != (Identifier{}) {
			p.Identifier = &bare.Participants[i]
		}
	}
}

// Participant is one entry in the roster of a call.
type Participant struct {
	// Who it is.
	Identifier *Identifier `json:"identifier"`
	// Is muted.
	IsMuted bool `json:"isMuted"`
	// Is on hold (API version 2024-11-15-preview).
	IsOnHold bool `json:"isOnHold"`
}

// AddParticipantSucceeded comes when an invited participant has accepted.
type AddParticipantSucceeded struct{ ParticipantOperation }

// AddParticipantFailed comes when an invited participant did not join.
type AddParticipantFailed struct{ ParticipantOperation }

// RemoveParticipantSucceeded comes when a participant was removed from the call.
type RemoveParticipantSucceeded struct{ ParticipantOperation }

// RemoveParticipantFailed comes when a participant could not be removed from the call.
type RemoveParticipantFailed struct{ ParticipantOperation }

// MoveParticipantSucceeded comes when a participant was moved here from another call.
type MoveParticipantSucceeded struct{ MoveOperation }

// MoveParticipantFailed comes when a participant could not be moved here from another call.
type MoveParticipantFailed struct{ MoveOperation }

// CancelAddParticipantSucceeded comes when an invitation was withdrawn. Its
// result can still have the code of an error, such as 487/5234: the invitation ended.
type CancelAddParticipantSucceeded struct{ InvitationOperation }

// CancelAddParticipantFailed comes when an invitation could not be withdrawn.
type CancelAddParticipantFailed struct{ InvitationOperation }

// HoldFailed comes when a participant could not be put on hold, or the music
// for it could not be played.
type HoldFailed struct{ Operation }

// ParticipantOperation is an [Operation] on one participant.
type ParticipantOperation struct {
	// The participant that the operation was about.
	Participant *Identifier `json:"participant"`
	Operation
}

// MoveOperation is an [Operation] that moves a participant between calls.
type MoveOperation struct {
	// The participant that the operation was about.
	Participant *Identifier `json:"participant"`
	// The callConnectionId of the call that the participant was in.
	FromCall string `json:"fromCall" pii:"link"`
	Operation
}

// InvitationOperation is an [Operation] on an invitation that has no answer yet.
type InvitationOperation struct {
	// The invitation, as the request that made it returned it.
	InvitationID string `json:"invitationId" pii:"link"`
	Operation
}
