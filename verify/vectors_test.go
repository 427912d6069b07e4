package verify_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

var update = flag.Bool("update", false, "sign the vectors in testdata that have changed")

// The configuration of the vectors: testdata/README.md.
const (
	vectorKeyID    = "k1"
	otherResource  = "fabrikam"
	otherAudience  = "8f2c2d7e-55a1-4a5e-8a0d-3a9d9d6f4b22"
	vectorAccepted = "accepted"
)

var vectorTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// vector is one file of testdata/tokens or testdata/entra.
type vector struct {
	name, token, expect string
}

func loadVectors(t testing.TB, folder string) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/" + folder + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var vectors []vector
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			signVector(t, archive)
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		vectors = append(vectors, vector{
			name:   strings.TrimSuffix(filepath.Base(file), ".txtar"),
			token:  section(archive, "token"),
			expect: section(archive, "expect"),
		})
	}
	return vectors
}

func section(archive *txtar.Archive, name string) string {
	for _, file := range archive.Files {
		if file.Name == name {
			return strings.TrimSuffix(string(file.Data), "\n")
		}
	}
	return ""
}

// signVector replaces the token of a vector, when its header or payload has
// changed.
func signVector(t testing.TB, archive *txtar.Archive) {
	t.Helper()
	header := section(archive, "header")
	if header == "" {
		return
	}
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(header)) + "." + encode([]byte(section(archive, "payload")))
	if strings.HasPrefix(section(archive, "token"), input+".") {
		return // some signatures are random, so a token that fits does not change
	}
	how := section(archive, "sign")
	if how == "" {
		how = "RS256 issuer"
	}
	token := txtar.File{Name: "token", Data: []byte(input + "." + encode(signature(t, how, input)) + "\n")}
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "token" })
	archive.Files = slices.Insert(archive.Files, len(archive.Files)-1, token)
}

func signature(t testing.TB, how, input string) []byte {
	t.Helper()
	switch how {
	case "none":
		return nil
	case "filler":
		return []byte{0}
	case "flipped":
		s := signature(t, "RS256 issuer", input)
		s[len(s)/2] ^= 1
		return s
	}
	method, name, _ := strings.Cut(how, " ")
	public := &loadKey(t, "issuer").PublicKey
	var key any
	switch name {
	case "issuer", "foreign":
		key = loadKey(t, name)
	case "pem":
		key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix(t, public)})
	case "der":
		key = pkix(t, public)
	case "modulus":
		key = public.N.Bytes()
	}
	s, err := jwt.GetSigningMethod(method).Sign(input, key)
	if err != nil {
		t.Fatalf("sign by %q: %v", how, err)
	}
	return s
}

func pkix(t testing.TB, public *rsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func loadKey(t testing.TB, name string) *rsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/keys", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// jwk writes a public key as a member of a key set; changes replace members
// of it, and a nil value removes one.
func jwk(t testing.TB, public any, kid string, changes map[string]any) json.RawMessage {
	t.Helper()
	key, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgRS256, KID: kid, USE: jwkset.UseSig},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(key.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range changes {
		members[name] = value
		if value == nil {
			delete(members, name)
		}
	}
	if text, err = json.Marshal(members); err != nil {
		t.Fatal(err)
	}
	return text
}

// vectorIssuer publishes the key of the vectors.
func vectorIssuer(t testing.TB) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Issuer: verify.DefaultIssuer, Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(jwk(t, &loadKey(t, "issuer").PublicKey, vectorKeyID, nil))
	return issuer
}

func vectorConfig(issuer *acstest.Issuer) verify.Config {
	c := config(issuer)
	c.Resources = append(c.Resources, verify.Resource{Name: otherResource, Audience: otherAudience})
	c.Now = func() time.Time { return vectorTime }
	return c
}

// TestVerify_vectors verifies every token of testdata. No vector may make the verifier
// request anything but the two documents of the issuer, and no error may repeat a word
// of its token.
func TestVerify_vectors(t *testing.T) {
	seen := map[verify.Reason]bool{}
	for _, vector := range loadVectors(t, "tokens") {
		checkVector(t, vector, vectorConfig, func(t *testing.T, claims *verify.Claims, err error) {
			if (err == nil) != (claims.Resource() == resource) {
				t.Errorf("error %v with claims of %q", err, claims.Resource())
			}
		})
		seen[verify.Reason(vector.expect)] = true
	}
	for _, vector := range loadVectors(t, "entra") {
		checkVector(t, vector, entraVectorConfig, func(t *testing.T, claims *verify.Claims, err error) {
			picked, pickErr := claims.ForResource(resource)
			if claims.Resource() != "" || (err == nil) != (pickErr == nil && picked.Resource() == resource) {
				t.Errorf("error %v with claims of %q that become those of %q, %v", err, claims.Resource(), picked.Resource(), pickErr)
			}
		})
		seen[verify.Reason(vector.expect)] = true
	}
	// These need more than a token: see TestVerify_emptyToken and TestReuse_policies.
	seen[verify.MissingToken], seen[verify.TokenReused] = true, true
	for _, reason := range verify.Reasons() {
		if !seen[reason] {
			t.Errorf("no vector is refused as %s", reason)
		}
	}
}

// checkVector verifies the token of a vector and compares the verdict.
func checkVector(t *testing.T, vector vector, config func(*acstest.Issuer) verify.Config, check func(*testing.T, *verify.Claims, error)) {
	t.Run(vector.name, func(t *testing.T) {
		issuer := vectorIssuer(t)
		synctest.Test(t, func(t *testing.T) {
			v := start(t, config(issuer))
			pastCooldown()
			claims, err := v.Verify(t.Context(), vector.token)
			if got := verdict(err); got != vector.expect {
				t.Errorf("got %s (%v), want %s", got, err, vector.expect)
			}
			check(t, claims, err)
			checkDiscreet(t, err, vector.token)
		})
		if issuer.SSRFHits() != 0 {
			t.Errorf("%d requests to addresses of the token", issuer.SSRFHits())
		}
	})
}

// verdict is the label of an outcome: a reason, keys_unavailable or accepted.
func verdict(err error) string {
	refused := new(verify.RefusedError)
	switch {
	case err == nil:
		return vectorAccepted
	case errors.As(err, &refused):
		return string(refused.Reason)
	case errors.Is(err, verify.ErrNoKeys):
		return verify.KeysUnavailable
	}
	return "neither refused nor ErrNoKeys: " + err.Error()
}

// checkDiscreet reports words of a token that are repeated in an error.
func checkDiscreet(t *testing.T, err error, token string) {
	t.Helper()
	if err == nil {
		return
	}
	for _, segment := range strings.Split(token, ".") {
		text, _ := base64.RawURLEncoding.DecodeString(segment)
		words := strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(`{}[]":, `, r) })
		for _, word := range append(words, segment) {
			if len(word) > 6 && strings.Contains(err.Error(), word) {
				t.Errorf("the error %q repeats %q of the token", err, word)
			}
		}
	}
}
