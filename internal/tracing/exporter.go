package tracing

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/internal/setting"
)

const (
	defaultEndpoint = "http://localhost:4318/v1/traces"
	defaultTimeout  = 10 * time.Second // of one request, and of those after it
	// maxAnswer bounds the answer of the collector in bytes, which is empty or one message.
	maxAnswer = 64 << 10
)

// pauses are those between attempts to export a batch (OTLP/HTTP, section "Failures").
var pauses = backoff.Doubling{First: 500 * time.Millisecond, Last: 5 * time.Second}

// exporter sends spans by OTLP over HTTP, in protobuf.
type exporter struct {
	url     string
	headers http.Header
	gzip    bool
	timeout time.Duration
	client  *http.Client
	logger  *slog.Logger
	failed  lograte.Limiter
}

// variable returns a variable of the exporter: that for traces wins over that for all
// signals.
func variable(name string) string {
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_"+name), os.Getenv("OTEL_EXPORTER_OTLP_"+name))
}

// newExporter reads the variables of the OTLP exporter
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
func newExporter(logger *slog.Logger) (e *exporter, err error) {
	e = &exporter{timeout: defaultTimeout, headers: http.Header{}, logger: logger}
	if e.url, err = endpoint(); err != nil {
		return nil, err
	}
	if protocol := variable("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, setting.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL", "%q is not supported, http/protobuf is", protocol)
	}
	switch compression := variable("COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		e.gzip = true
	default:
		return nil, setting.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION", "%q is not supported, gzip and none are", compression)
	}
	if text := variable("TIMEOUT"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil || ms == 0 {
			return nil, setting.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT", "%q is not a number of milliseconds", text)
		}
		e.timeout = time.Duration(ms) * time.Millisecond
	}
	for pair := range strings.SplitSeq(variable("HEADERS"), ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if value, err = url.PathUnescape(value); pair != "" && (err != nil || !ok) {
			return nil, setting.Errorf("OTEL_EXPORTER_OTLP_HEADERS", "not name=value, percent-encoded, separated by commas") // it may be a secret
		} else if pair != "" {
			e.headers.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = tlsConfig(); err != nil {
		return nil, err
	}
	e.client = &http.Client{
		Transport: transport, // with HTTPS_PROXY
		// A redirect would take the headers elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

func endpoint() (string, error) {
	text, path := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), ""
	if text == "" {
		text, path = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "/v1/traces"
	}
	if text == "" {
		return defaultEndpoint, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", setting.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT", "is not an http or https URL") // it may have a password
	}
	return strings.TrimSuffix(u.String(), "/") + path, nil
}

// tlsConfig has the certificates of the variables, read once.
func tlsConfig() (*tls.Config, error) {
	config := &tls.Config{}
	if file := variable("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, setting.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE", "%v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, setting.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE", "%s holds no certificate", file)
		}
	}
	if file := variable("CLIENT_CERTIFICATE"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, variable("CLIENT_KEY"))
		if err != nil {
			return nil, setting.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "%v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// ExportSpans sends a batch, again while that may help and ctx lasts. A failure is
// logged: the SDK would write it to stderr.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := proto.Marshal(&collector.ExportTraceServiceRequest{ResourceSpans: resourceSpans(spans)})
	if err == nil && e.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err = w.Write(body)
		err = errors.Join(err, w.Close())
		body = b.Bytes()
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	for attempt := 1; err == nil; attempt++ {
		pause, retry, failure := e.post(ctx, body)
		if failure == nil {
			return nil
		}
		if err = failure; !retry || backoff.Wait(ctx, max(pauses.After(attempt), pause)) != nil {
			break
		}
		err = nil
	}
	e.failed.Log(e.logger, slog.LevelWarn, "spans were not exported and are lost", slog.Int("spans", len(spans)), slog.Any("error", err))
	return nil
}

// post sends a batch once. It reports whether another attempt may help, and the pause
// that the collector asks for.
func (e *exporter) post(ctx context.Context, body []byte) (pause time.Duration, retry bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return 0, false, err
	}
	r.Header = e.headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	if e.gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	response, err := e.client.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // its text has the URL, which may have a password
			err = failed.Err
		}
		return 0, true, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch code := response.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return backoff.RetryAfter(response.Header.Get("Retry-After"), time.Now(), e.timeout), true, fmt.Errorf("the collector answers %d", code)
	case code < 200 || code > 299:
		return 0, false, fmt.Errorf("the collector answers %d", code)
	case err != nil:
		return 0, false, fmt.Errorf("read the collector's answer: %w", err)
	}
	var result collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &result); err != nil {
		return 0, false, fmt.Errorf("read the collector's answer: %w", err)
	}
	if n := result.GetPartialSuccess().GetRejectedSpans(); n > 0 {
		return 0, false, fmt.Errorf("the collector rejects %d of them", n)
	}
	return 0, false, nil
}

// Shutdown closes the connections.
func (e *exporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}
