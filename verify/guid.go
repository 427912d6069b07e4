package verify

import (
	"regexp"
	"slices"
	"strings"
)

// guidLength is the length of a GUID in characters.
const guidLength = 36

var guid = regexp.MustCompile(`\b[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`)

// isGUID reports whether a text is a GUID, in either case.
func isGUID(text string) bool { return len(text) == guidLength && guid.MatchString(text) }

// foldGUIDs returns text with the GUIDs in it in small letters. GUIDs are equal
// whatever their case (RFC 9562, section 4), and Azure's tools write either; what
// is around them, such as api://, stays exact.
func foldGUIDs(text string) string { return guid.ReplaceAllStringFunc(text, strings.ToLower) }

// contains reports whether a list has a text, with GUIDs in either case.
func contains(list []string, text string) bool {
	return slices.ContainsFunc(list, func(own string) bool {
		return own == text || strings.EqualFold(own, text) && foldGUIDs(own) == foldGUIDs(text)
	})
}
