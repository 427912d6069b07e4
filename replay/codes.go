package replay

import (
	"fmt"
	"net/http"

	"github.com/acsbridge/acsbridge/schemas"
)

// subCodes are the meanings of subcodes: those of Azure's list of troubleshooting
// codes, and of the SDK's MediaEventReasonCode, as far as they come in events:
// https://learn.microsoft.com/azure/communication-services/resources/troubleshooting/voice-video-calling/troubleshooting-codes
var subCodes = map[int]string{
	4097: "the organizer ended the meeting for all", 4506: "the call was not answered in time", 4521: "a participant left without hanging up",
	5000: "removed by another participant", 5003: "all endpoints of the callee declined", 5300: "removed by another participant",
	7000: "ended by Call Automation or a bot", 7015: "transferred", 7500: "the identity is not supported", 7501: "invalid token",
	7504: "the application lacks permissions", 7507: "caller's number or identity is not of this resource", 7600: "no access to the resource",

	8500: "another media operation is running", 8501: "the call was not established yet", 8508: "cancelled",
	8509: "silent for too long", 8510: "no speech or tone came in time", 8511: "the prompt could not be played",
	8512: "the beep could not be played", 8513: "no media was received", 8514: "the stop tone was pressed", 8515: "the recording reached its longest time",
	8516: "throttled", 8519: "in conflict with another operation", 8520: "not implemented", 8522: "call or participant does not exist any more",
	8523: "an argument of the request is wrong", 8528: "the call had ended already", 8531: "all digits were collected", 8532: "too long between two digits",
	8533: "a tone of the menu was pressed", 8534: "a tone that is not in the menu was pressed", 8535: "the audio file's format is wrong",
	8536: "the audio file could not be downloaded", 8537: "one side stopped answering", 8538: "the callee declined", 8539: "the callee is busy",
	8540: "the callee is busy everywhere", 8541: "the callee is not available", 8542: "the call was cancelled", 8543: "the call does not exist",
	8544: "the callee cannot be reached", 8545: "an option of the menu was said", 8547: "what was said is not in the menu",
	8553: "the call is recorded already", 8558: "the participant is not in the call", 8559: "the call is recorded already",
	8563: "what was said was not understood", 8564: "no connection to the speech service", 8565: "the AI service failed or refused",
	8567: "the resource has no identity for the AI service", 8568: "the managed identity does not work for the AI service",
	8569: "speech was recognized", 8570: "the AI service did not recognize the speech", 8571: "in conflict with another recording operation",
	8572: "the play service shut down", 8578: "transcription failed", 8579: "transcription was cancelled", 8580: "the transcription service shut down",
	8581: "the stream's URL is wrong", 8582: "text or SSML to play is empty", 8583: "another operation blocks it",
	8585: "the state of the call does not allow it", 8587: "not answered in time", 8603: "media streaming failed", 8604: "media streaming was cancelled",
	8607: "another transfer is running", 8613: "too many live captions", 9001: "a service that it depends on failed", 9002: "a service that it depends on did not answer in time",
	9003: "cancelled", 9998: "a fatal fault of the service", 9999: "an unknown fault of the service",

	10003: "accepted at another endpoint", 10004: "the call was not answered in time", 10009: "the identity was not verified", 10024: "all endpoints of the callee declined",
	10037: "the callee has no endpoint", 10057: "the callee's endpoint did not complete the call", 10076: "the callee is not online", 10077: "the callee is not online",
	10078: "the callee's endpoint cannot be reached", 301004: "no media connection to the participant", 301005: "lost the media connection to the participant",
	510403: "blocked as spam", 540487: "the caller cancelled", 560000: "the telephone hung up", 560486: "the telephone is busy",
}

// codes are the meanings of codes whose subcode is zero or not known. Those of HTTP
// are in [net/http].
var codes = map[int]string{
	410: "the media connection failed", 430: "the client application was not reached", 480: "the callee cannot be reached",
	481: "the call does not exist", 486: "busy", 487: "cancelled", 490: "a network fault at one side", 491: "a network fault at one side",
	496: "a network fault at one side", 497: "a network fault at one side", 498: "a network fault at one side", 600: "busy everywhere", 603: "declined",
}

// ResultMeaning returns what the codes of a result mean; empty for plain success and
// for codes that are not published.
func ResultMeaning(r *schemas.ResultInformation) string {
	if r == nil {
		return ""
	}
	if text, ok := subCodes[r.SubCode]; ok {
		return text
	}
	if text, ok := codes[r.Code]; ok {
		return text
	}
	if text := http.StatusText(r.Code); r.Code >= 400 && text != "" {
		return fmt.Sprintf("%q", text)
	}
	return ""
}

// ResultText is a result in codes and words, as 486/0 busy.
func ResultText(r *schemas.ResultInformation) string {
	if r == nil {
		return "without a result"
	}
	text := fmt.Sprintf("%d/%d", r.Code, r.SubCode)
	if words := ResultMeaning(r); words != "" {
		text += " " + words
	}
	return text
}
