package verify_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/c2sp/wycheproof"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// wycheproofFile is the form of the JSON Web Signature and JSON Web Key
// vectors.
type wycheproofFile struct {
	TestGroups []struct {
		Comment string          `json:"comment"`
		Public  json.RawMessage `json:"public"`
		Private json.RawMessage `json:"private"`
		Tests   []struct {
			ID      int    `json:"tcId"`
			Comment string `json:"comment"`
			JWS     string `json:"jws"`
			Result  string `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

func loadWycheproof(t *testing.T, name string) wycheproofFile {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file wycheproofFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// keyMembers returns the keys of a group: one key, or a set of them.
func keyMembers(t *testing.T, public, private json.RawMessage) []json.RawMessage {
	t.Helper()
	key := public
	if key == nil {
		key = private
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(key, &set); err != nil {
		t.Fatal(err)
	}
	if set.Keys != nil {
		return set.Keys
	}
	return []json.RawMessage{key}
}

// Valid RS256 vectors that are refused, and why.
var refusedThoughValid = map[string]string{
	"json_web_signature_test.json 259": "the payload is empty, and a JWT has claims",
}

// Invalid vectors that pass, and why.
var passedThoughInvalid = map[string]string{
	"json_web_key_test.json 7": "the key has the ROCA weakness: keys come from the issuer over TLS and are not searched for it",
}

// TestVerify_wycheproofSignatures checks the key filter and the signature check. The
// payloads of the vectors are not claims, so claims are not checked.
func TestVerify_wycheproofSignatures(t *testing.T) {
	accepted := 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json"} {
		for _, group := range loadWycheproof(t, name).TestGroups {
			set, err := json.Marshal(map[string]any{"keys": keyMembers(t, group.Public, group.Private)})
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range group.Tests {
				id := fmt.Sprint(name, " ", test.ID)
				err := verify.CheckSignature(set, test.JWS)
				want := test.Result == "valid" && algorithmOf(test.JWS) == "RS256" && refusedThoughValid[id] == "" ||
					passedThoughInvalid[id] != ""
				if (err == nil) != want {
					t.Errorf("%s, %s, %s (%s): %v", id, group.Comment, test.Comment, test.Result, err)
				}
				if err == nil {
					accepted++
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("no vector was accepted: the test proves nothing")
	}
}

// algorithmOf returns the alg of a token.
func algorithmOf(token string) string {
	header, _, _ := strings.Cut(token, ".")
	var h struct {
		Algorithm string `json:"alg"`
	}
	_ = json.Unmarshal(decode(header), &h)
	return h.Algorithm
}

// TestVerify_wycheproofTokens verifies the same vectors. None of them has the claims of
// a callback, so none may be accepted.
func TestVerify_wycheproofTokens(t *testing.T) {
	for _, group := range loadWycheproof(t, "json_web_signature_test.json").TestGroups {
		issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: sharedKey()})
		if err != nil {
			t.Fatal(err)
		}
		issuer.Publish(keyMembers(t, group.Public, group.Private)...)
		synctest.Test(t, func(t *testing.T) {
			v := start(t, config(issuer))
			pastCooldown()
			for _, test := range group.Tests {
				if _, err := v.Verify(t.Context(), test.JWS); err == nil {
					t.Errorf("%d, %s, %s: accepted", test.ID, group.Comment, test.Comment)
				}
			}
		})
	}
}
