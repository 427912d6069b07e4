package natsconn

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// What belongs to the files in testdata/login.
const (
	loginOperator = "OBN64MTWJPOFM2523X7TCMLIIFAA2IJVPWZW7BZ24WKN6YERHUQKTJ7L"
	loginAccount  = "AAY5SH3TDCT2L4GD6ZPO5QEI5ZBHDQ6HQRV3QSAKS5HUJ3YH5VXNAINJ"
	loginNKey     = "UD5RN6MEOD56KDVRPNXXDSNS7DCJH3JGJWUIIEMCGK24ISAVZWG2OJSX"
)

// TestConfig_logins connects to servers that want the login, and
// sees that a wrong one keeps trying.
func TestConfig_logins(t *testing.T) {
	tlsFiles := certificates(t)
	for name, test := range map[string]struct {
		server       func(*natsserver.Options)
		login, wrong Config
	}{
		"password": {
			server: func(o *natsserver.Options) { o.Username, o.Password = "bridge", "secret" },
			login:  Config{User: "bridge", Password: "secret"},
			wrong:  Config{User: "bridge", Password: "other"},
		},
		"token": {
			server: func(o *natsserver.Options) { o.Authorization = "secret" },
			login:  Config{Token: "secret"},
			wrong:  Config{Token: "other"},
		},
		"nkey": {
			server: func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: loginNKey}} },
			login:  Config{NKey: "testdata/login/bridge.nk"},
			wrong:  Config{Token: "other"},
		},
		"credentials": {
			server: func(o *natsserver.Options) {
				resolver := &natsserver.MemAccResolver{}
				account, err := os.ReadFile("testdata/login/account.jwt")
				if err != nil {
					t.Fatal(err)
				}
				if err := resolver.Store(loginAccount, strings.TrimSpace(string(account))); err != nil {
					t.Fatal(err)
				}
				o.TrustedKeys, o.AccountResolver = []string{loginOperator}, resolver
			},
			login: Config{Creds: "testdata/login/bridge.creds"},
			wrong: Config{Token: "other"},
		},
		"client certificate": {
			server: tlsFiles.require,
			login:  Config{CA: tlsFiles.ca, Cert: tlsFiles.cert, Key: tlsFiles.key},
			wrong:  Config{CA: tlsFiles.ca},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t, func(o *natsserver.Options) {
				o.JetStream = false
				test.server(o)
			})
			test.login.URL, test.wrong.URL = server.URL(), server.URL()
			for _, login := range []Config{test.login, marked(t, test.login)} {
				if link := dial(t, login); !connects(t, link) {
					_, problem := link.State()
					t.Errorf("the login %+v does not let us in: %v", login, problem)
				}
			}
			link := dial(t, test.wrong)
			natstest.Until(t, func() bool { _, problem := link.State(); return problem != nil })
			if connected, _ := link.State(); connected {
				t.Error("a wrong login lets us in")
			}
		})
	}
}

// A context of the nats command line brings its URL and its login.
func TestConfig_context(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.Username, o.Password = "bridge", "secret" })
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	contexts := filepath.Join(dir, "nats", "context")
	if err := os.MkdirAll(contexts, 0o700); err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf(`{"url":%q,"user":"bridge","password":"secret"}`, server.URL())
	if err := os.WriteFile(filepath.Join(contexts, "contact-centre.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if !connects(t, dial(t, Config{Context: "contact-centre"})) {
		t.Error("the context does not lead to the server")
	}
	if _, err := Connect(Config{Context: "another"}, nil); err == nil {
		t.Error("a context that is not there is not an error")
	}
}

// marked returns a login whose files begin with a byte order mark.
func marked(t *testing.T, login Config) Config {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []*string{&login.NKey, &login.Creds, &login.CA, &login.Cert, &login.Key} {
		if *name == "" {
			continue
		}
		text, err := os.ReadFile(*name)
		if err != nil {
			t.Fatal(err)
		}
		*name = filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(*name, append([]byte("\xef\xbb\xbf"), text...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return login
}

// dial returns a link that may not be connected.
func dial(t *testing.T, config Config) *Link {
	t.Helper()
	link, err := Connect(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	return link
}

// connects waits until the link is connected or NATS says why it is not.
func connects(t *testing.T, link *Link) bool {
	t.Helper()
	var connected bool
	natstest.Until(t, func() bool {
		var problem error
		connected, problem = link.State()
		return connected || problem != nil
	})
	return connected
}

// tlsFiles are PEM files of one certificate that is its own authority, the
// server's and the client's.
type tlsFiles struct {
	ca, cert, key string
	pair          tls.Certificate
	pool          *x509.CertPool
}

func certificates(t *testing.T) tlsFiles { return certificatesUntil(t, time.Now().Add(time.Hour)) }

func certificatesUntil(t *testing.T, end time.Time) tlsFiles {
	t.Helper()
	certPEM, keyPEM := certtest.SelfSigned(t, &x509.Certificate{
		Subject:   pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	dir := t.TempDir()
	f := tlsFiles{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	f.ca = f.cert
	for path, content := range map[string][]byte{f.cert: certPEM, f.key: keyPEM} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if f.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	f.pool.AppendCertsFromPEM(certPEM)
	return f
}

// require makes a server demand a client certificate.
func (f tlsFiles) require(o *natsserver.Options) {
	o.TLS, o.TLSVerify = true, true
	o.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{f.pair}, ClientCAs: f.pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
}
