package schemas

// PlayStarted comes when the first prompt of a request plays. PlayFailed may
// follow for a later one.
type PlayStarted struct{ Operation }

// PlayCompleted comes when all prompts of a request were played.
type PlayCompleted struct{ Operation }

// PlayFailed comes when a prompt could not be played.
type PlayFailed struct {
	// Which prompt of the request it was, from 0; absent when it was none (API version 2024-11-15-preview).
	FailedPlaySourceIndex *int `json:"failedPlaySourceIndex"`
	Operation
}

// PlayCanceled comes when the application has stopped the prompts.
type PlayCanceled struct{ Operation }

// RecognizeCompleted comes when a caller has pressed or said what was asked for.
type RecognizeCompleted struct {
	// Which of the results to read.
	RecognitionType RecognitionType `json:"recognitionType"`
	// What was pressed.
	DTMFResult *DTMFResult `json:"dtmfResult"`
	// Which of the choices was made (API version 2024-04-15).
	ChoiceResult *ChoiceResult `json:"choiceResult"`
	// What was said (API version 2024-04-15).
	SpeechResult *SpeechResult `json:"speechResult"`
	// The event's source once more: no SDK shows it.
	EventSource string `json:"eventSource" pii:"link"`
	Operation
}

// RecognitionType is a way to recognise, an open set.
type RecognitionType string

// Known ways to recognise.
const (
	RecognizedDTMF    RecognitionType = "dtmf"
	RecognizedSpeech  RecognitionType = "speech"
	RecognizedChoices RecognitionType = "choices"
)

// DTMFResult is what a caller pressed.
type DTMFResult struct {
	// The tones in their order.
	Tones []Tone `json:"tones" pii:"said"`
}

// ChoiceResult is the choice that a caller made.
type ChoiceResult struct {
	// The label that the application gave to the choice.
	Label string `json:"label" pii:"said"`
	// The words by which the caller chose; absent when a key was pressed.
	RecognizedPhrase string `json:"recognizedPhrase" pii:"said"`
	// How sure the service is, from 0 to 1.
	Confidence float64 `json:"confidence"`
}

// SpeechResult is what a caller said.
type SpeechResult struct {
	// The words.
	Speech string `json:"speech" pii:"said"`
	// How sure the service is, from 0 to 1.
	Confidence float64 `json:"confidence"`
}

// Tone is one key of a telephone, an open set.
type Tone string

// Known tones.
const (
	ToneZero     Tone = "zero"
	ToneOne      Tone = "one"
	ToneTwo      Tone = "two"
	ToneThree    Tone = "three"
	ToneFour     Tone = "four"
	ToneFive     Tone = "five"
	ToneSix      Tone = "six"
	ToneSeven    Tone = "seven"
	ToneEight    Tone = "eight"
	ToneNine     Tone = "nine"
	ToneA        Tone = "a"
	ToneB        Tone = "b"
	ToneC        Tone = "c"
	ToneD        Tone = "d"
	TonePound    Tone = "pound"
	ToneAsterisk Tone = "asterisk"
)

// RecognizeFailed comes when a caller did not press or say what was asked for,
// or the prompt could not be played.
type RecognizeFailed struct {
	// Which prompt of the request could not be played, from 0; absent when it was none (API version 2024-11-15-preview).
	FailedPlaySourceIndex *int `json:"failedPlaySourceIndex"`
	Operation
}

// RecognizeCanceled comes when the application has stopped recognising.
type RecognizeCanceled struct{ Operation }

// ContinuousDtmfRecognitionToneReceived comes when a participant has pressed a
// key, one event a key, as long as the application listens for them.
type ContinuousDtmfRecognitionToneReceived struct {
	// Counts the keys of this recognition.
	SequenceID *int `json:"sequenceId"`
	// The key.
	Tone Tone `json:"tone" pii:"said"`
	ToneOperation
}

// ContinuousDtmfRecognitionToneFailed comes when listening for keys has failed.
type ContinuousDtmfRecognitionToneFailed struct{ ToneOperation }

// ContinuousDtmfRecognitionStopped comes when the application has stopped
// listening for keys.
type ContinuousDtmfRecognitionStopped struct{ Operation }

// ToneOperation is an [Operation] of continuous recognition.
type ToneOperation struct {
	// The event's source once more: no SDK shows it.
	EventSource string `json:"eventSource" pii:"link"`
	Operation
}

// SendDtmfTonesCompleted comes when tones were sent to a participant.
type SendDtmfTonesCompleted struct{ Operation }

// SendDtmfTonesFailed comes when tones could not be sent to a participant.
type SendDtmfTonesFailed struct{ Operation }
