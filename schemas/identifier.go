package schemas

// Identifier names a participant of a call. Besides Kind and RawID it has one member,
// by the kind.
type Identifier struct {
	// Which of the members is there; not always sent.
	Kind IdentifierKind `json:"kind"`
	// The whole identifier as one text, whatever its kind.
	RawID string `json:"rawId" pii:"identifier"`
	// A user of the Communication Services resource.
	CommunicationUser *CommunicationUser `json:"communicationUser"`
	// A person at a telephone.
	PhoneNumber *PhoneNumber `json:"phoneNumber"`
	// A user of Microsoft Teams.
	MicrosoftTeamsUser *TeamsUser `json:"microsoftTeamsUser"`
	// A bot, call queue or auto attendant of Microsoft Teams.
	MicrosoftTeamsApp *TeamsApp `json:"microsoftTeamsApp"`
	// A user of Microsoft Teams Phone (API version 2025-06-15).
	TeamsExtensionUser *TeamsExtensionUser `json:"teamsExtensionUser"`
}

// IdentifierKind is the kind of an [Identifier], an open set.
type IdentifierKind string

// Known kinds of identifiers.
const (
	KindUnknown            IdentifierKind = "unknown"
	KindCommunicationUser  IdentifierKind = "communicationUser"
	KindPhoneNumber        IdentifierKind = "phoneNumber"
	KindMicrosoftTeamsUser IdentifierKind = "microsoftTeamsUser"
	KindMicrosoftTeamsApp  IdentifierKind = "microsoftTeamsApp"
	KindTeamsExtensionUser IdentifierKind = "teamsExtensionUser"
)

// CommunicationUser is a user of a Communication Services resource.
type CommunicationUser struct {
	// The user's id, 8:acs: and two GUIDs.
	ID string `json:"id" pii:"identifier"`
}

// PhoneNumber is a telephone number.
type PhoneNumber struct {
	// The number in the form of E.164.
	Value string `json:"value" pii:"identifier"`
	// The number is withheld (API version 2025-06-15).
	IsAnonymous bool `json:"isAnonymous"`
	// Distinguishes several calls of one number (API version 2025-06-15).
	AssertedID string `json:"assertedId" pii:"identifier"`
}

// TeamsUser is a user of Microsoft Teams.
type TeamsUser struct {
	// The user's object id in Entra ID.
	UserID string `json:"userId" pii:"identifier"`
	// Joined as a guest, without an account.
	IsAnonymous bool `json:"isAnonymous"`
	// The cloud that the user is in.
	Cloud Cloud `json:"cloud"`
}

// TeamsApp is an application in Microsoft Teams.
type TeamsApp struct {
	// The application's id.
	AppID string `json:"appId" pii:"identifier"`
	// The cloud that the application is in.
	Cloud Cloud `json:"cloud"`
}

// TeamsExtensionUser is a user of Microsoft Teams Phone.
type TeamsExtensionUser struct {
	// The user's object id in Entra ID.
	UserID string `json:"userId" pii:"identifier"`
	// The user's tenant.
	TenantID string `json:"tenantId" pii:"identifier"`
	// The Communication Services resource that serves the user.
	ResourceID string `json:"resourceId" pii:"link"`
	// The cloud that the user is in.
	Cloud Cloud `json:"cloud"`
}

// Cloud is one of Azure's clouds, an open set.
type Cloud string

// Known clouds.
const (
	CloudPublic Cloud = "public"
	CloudDoD    Cloud = "dod"
	CloudGCCH   Cloud = "gcch"
)
