// Package verify decides whether a bearer token comes from Azure Communication
// Services and is meant for one of our resources; or, in another profile, from
// Azure Event Grid and for our application. It does not know HTTP statuses, events
// or NATS.
//
// # A verdict
//
// [Verifier.Verify] does the cheap checks first, so that junk costs little and a
// token with wrong claims never causes a fetch of keys:
//
//	form       size, alphabet, three segments
//	header     members, typ, alg, kid
//	claims     iss, aud → resource, exp, nbf, iat, lifetime
//	key        by kid, from memory
//	signature  RS256
//
// golang-jwt checks the dates and the signature; jwkset reads the keys and keyfunc
// picks one. Header and claims are read here, once, by readers that refuse what
// parsers disagree about. requirements.md names what the libraries leave open, what
// is done about it, and its test.
//
// There are two kinds of errors. A [*RefusedError] is certain: no retry can save the
// token. [ErrNoKeys] is not: the token may be good, and the sender should retry.
//
//	what happened                              verdict
//	the token is bad, whatever the keys are    refused, with the reason
//	a fetch after the token came lacks its kid refused: unknown_key
//	no keys yet, or none fetched for 24 hours  ErrNoKeys
//	unknown kid, and the key server is down    ErrNoKeys
//	unknown kid, within 10 s of a fetch        ErrNoKeys
//	unknown kid, and a cache answered          ErrNoKeys
//	the issuer lists the kid with a bad key    ErrNoKeys
//
// Only this package makes [Claims] with a resource, so no other package has to check
// where Claims come from.
//
// # Profiles
//
// A [Verifier] takes tokens of one profile, and each profile refuses the good
// tokens of the other. Both have the same steps; [Config.Entra] selects what
// differs:
//
//	               callbacks                 Entra ID, for Event Grid
//	iss            one                       the two of one tenant
//	aud            picks the resource        names our application
//	appid, azp     ignored                   pinned
//	lifetime       10 minutes                25 hours
//	keys           all of the set            not those of other issuers
//	reuse          reported                  usual
//
// Claims of Event Grid prove a sender that speaks for several resources. They have
// no resource until the caller picks one, once, with [Claims.ForResource]. Without
// Entra ID, [SharedKeys] makes such claims from a key in the URL.
//
// # The keys
//
// [Verifier.Run] is one loop that makes every fetch: the OIDC document at a pinned
// address, then the key set on the same origin. It fetches at the start, every ten
// minutes, after a failure with a back-off of up to 30 seconds, and for a token with
// an unknown kid at most once in ten seconds. A failed fetch, or one without a
// usable key, changes nothing: the last good set stays for 24 hours. A client can
// therefore cause one fetch in ten seconds, and nothing else.
//
// Trusted are TLS to the pinned origin, the machine's clock, and the configuration.
// A token's iss, jku, x5u and the like never start a fetch.
//
// # A message about a refusal
//
// A wrong configuration has every callback refused, most often for a claim and
// before its signature is checked. [Verifier.Explain] reads a refused token again so
// that a log can show what is wrong. It changes no verdict, does not fetch or wait,
// and reveals claims only when a key that is held has signed them.
//
// # What a token does not prove
//
// ACS does not sign the body. A client that has seen a token can send any body with
// it for five minutes. [Verifier.CheckReuse] notices when one token comes with two
// bodies; a secret in the callback's address is the stronger defence.
package verify
