package schemas

import "encoding/json"

// DialogStarted comes when a bot has taken over the conversation.
type DialogStarted struct{ Dialog }

// DialogCompleted comes when a bot has ended the conversation.
type DialogCompleted struct{ Dialog }

// DialogFailed comes when the conversation with a bot could not begin or go on.
// Its result can be 200 nevertheless.
type DialogFailed struct{ Dialog }

// DialogConsent comes when the bot has asked the caller for consent. Its further
// members are not published.
type DialogConsent struct{ BotDialog }

// DialogHangup comes when the bot ends the call. Its further members are not
// published.
type DialogHangup struct{ BotDialog }

// DialogTransfer comes when the bot hands the caller on. Its further members are
// not published.
type DialogTransfer struct{ BotDialog }

// DialogSensitivityUpdate comes when the bot marks what follows as sensitive, or
// no longer. Its further members are not published.
type DialogSensitivityUpdate struct{ BotDialog }

// DialogUpdated comes when the dialog was changed. Its further members are not
// published.
type DialogUpdated struct{ BotDialog }

// DialogLanguageChange comes when the caller goes on in another language.
type DialogLanguageChange struct {
	// The language that was picked.
	SelectedLanguage string `json:"selectedLanguage" pii:"said"`
	BotDialog
}

// Dialog is an [Operation] of a conversation with a bot.
type Dialog struct {
	// Kind of bot.
	DialogInputType DialogInputType `json:"dialogInputType"`
	// The dialog, as the request that began it returned it.
	DialogID string `json:"dialogId" pii:"link"`
	Operation
}

// BotDialog is a [Dialog] with what the bot adds.
type BotDialog struct {
	Dialog
	// What the bot keeps of the conversation; its form is the bot's own.
	IVRContext json.RawMessage `json:"ivrContext" pii:"said"`
}

// DialogInputType is a kind of bot, an open set.
type DialogInputType string

// DialogPowerVirtualAgents is the known kind of bot.
const DialogPowerVirtualAgents DialogInputType = "powerVirtualAgents"
