package arc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"floe/glidein/batch"
)

// Limits of one answer and of one request. A list of 100,000 jobs is some 8 MB.
const (
	maxAnswer   = 64 << 20
	requestTime = 2 * time.Minute
)

// one is a job as every answer of A-REX tells of it.
type one struct {
	Code   string `json:"status-code"`
	Reason string `json:"reason"`
	ID     string `json:"id"`
	State  string `json:"state"`
	Info   struct {
		Activity struct {
			Name string `json:"Name"`
		} `json:"ComputingActivity"`
	} `json:"info_document"`
}

// several are jobs: A-REX gives a single one as an object and none as nothing.
type several []one

func (s *several) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]one)(s))
	}
	var j one
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*s = several{j}
	return nil
}

// parse reads the answer to any verb on jobs.
func parse(b []byte) ([]one, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, errors.New("an empty answer")
	}
	var a struct {
		Jobs several `json:"job"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	for _, j := range a.Jobs {
		if j.ID != "" && !jobID.MatchString(j.ID) {
			return nil, fmt.Errorf("job id %q", j.ID)
		}
	}
	return a.Jobs, nil
}

// link is how one pass speaks to the element.
type link struct {
	client *http.Client
	bearer string
}

// connect finds the authorities of the grid, and who we are.
func connect() (*link, error) {
	roots, err := authorities()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	bearer := ""
	proxy, token := os.Getenv("X509_USER_PROXY"), os.Getenv("BEARER_TOKEN_FILE")
	if proxy == "" && token == "" {
		proxy = filepath.Join(os.TempDir(), fmt.Sprintf("x509up_u%d", os.Getuid()))
	}
	if proxy != "" {
		// A proxy file holds the certificate, its key and the chain.
		cert, err := tls.LoadX509KeyPair(proxy, proxy)
		if err != nil {
			return nil, fmt.Errorf("the site's proxy certificate: %w; make one with arcproxy, or name it with X509_USER_PROXY, or a token with BEARER_TOKEN_FILE", err)
		}
		if end := cert.Leaf.NotAfter; time.Now().After(end) {
			return nil, fmt.Errorf("the site's proxy certificate %s ended at %s; renew it", proxy, end.Format(time.RFC3339))
		}
		c.Certificates = []tls.Certificate{cert}
	} else {
		b, err := os.ReadFile(token)
		if err != nil {
			return nil, fmt.Errorf("the site's token: %w", err)
		}
		bearer = strings.TrimSpace(string(b))
	}
	return &link{&http.Client{Timeout: requestTime, Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment}}, bearer}, nil
}

// authorities are those of X509_CERT_DIR, or of the usual place, beside the machine's.
func authorities() (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	dir := os.Getenv("X509_CERT_DIR")
	if dir == "" {
		dir = "/etc/grid-security/certificates"
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.[0-9]"))
	if err != nil {
		return nil, err
	}
	pems, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	for _, f := range append(files, pems...) {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("authorities of the grid: %w", err)
		}
		roots.AppendCertsFromPEM(b)
	}
	return roots, nil
}

// call makes one request. kind is the type of what is sent, or of what a GET wants,
// which otherwise is JSON. An error is ErrTransient: there was no answer. Otherwise
// the HTTP status is the answer, with the body.
func (s *System) call(ctx context.Context, method, path, kind string, body io.Reader) (int, []byte, error) {
	fail := func(err error) error { return fmt.Errorf("arc: %s: %w: %w", s.endpoint, batch.ErrTransient, err) }
	l, err := s.link()
	if err != nil {
		return 0, nil, fail(err)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.endpoint+"/rest/1.0/jobs"+path, body)
	if err != nil {
		return 0, nil, fail(err)
	}
	r.Header.Set("Accept", "application/json")
	switch {
	case kind == "":
	case method == http.MethodGet:
		r.Header.Set("Accept", kind)
	default:
		r.Header.Set("Content-Type", kind)
	}
	if l.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+l.bearer)
	}
	answer, err := l.client.Do(r)
	if err != nil {
		return 0, nil, fail(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fail(err)
	}
	if len(b) > maxAnswer {
		return 0, nil, fail(fmt.Errorf("%s %s: an answer of more than %d MiB", method, path, maxAnswer>>20))
	}
	return answer.StatusCode, b, nil
}

// list are all jobs of ours. Of none A-REX makes an empty answer in JSON, as whatever
// goes wrong might; in XML it says so.
func (s *System) list(ctx context.Context) ([]one, error) {
	b, err := s.answer(ctx, http.MethodGet, "", "", nil)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		if b, err = s.answer(ctx, http.MethodGet, "", "application/xml", nil); err == nil && saysNone(b) {
			return nil, nil
		}
		b = nil
	}
	if err != nil {
		return nil, err
	}
	return s.understand("the list of jobs", b)
}

// saysNone tells whether an XML document lists jobs, and has none.
func saysNone(b []byte) bool {
	var a struct {
		XMLName xml.Name   `xml:"jobs"`
		Jobs    []struct{} `xml:",any"`
	}
	return xml.Unmarshal(b, &a) == nil && len(a.Jobs) == 0
}

// jobs makes a request whose answer is about jobs.
func (s *System) jobs(ctx context.Context, method, path, kind string, body []byte) ([]one, error) {
	b, err := s.answer(ctx, method, path, kind, body)
	if err != nil {
		return nil, err
	}
	return s.understand(path, b)
}

// answer makes a request and returns what was answered, if it was no refusal.
func (s *System) answer(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	status, b, err := s.call(ctx, method, path, kind, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if status/100 != 2 {
		class := batch.ErrTransient
		if status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
			class = batch.ErrRefused
		}
		return nil, fmt.Errorf("arc: %s: %w: HTTP status %d: %s", s.endpoint, class, status, firstLine(b))
	}
	return b, nil
}

func (s *System) understand(what string, b []byte) ([]one, error) {
	all, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("arc: %s: %w: cannot understand its answer to %s: %w", s.endpoint, batch.ErrTransient, what, err)
	}
	return all, nil
}

// about asks one verb about jobs, many at once.
func (s *System) about(ctx context.Context, verb string, ids []string) ([]one, error) {
	type named struct {
		ID string `json:"id"`
	}
	request := struct {
		Jobs []named `json:"job"`
	}{}
	for _, id := range ids {
		request.Jobs = append(request.Jobs, named{id})
	}
	b, err := json.Marshal(&request)
	if err != nil {
		return nil, err
	}
	return s.jobs(ctx, http.MethodPost, "?action="+url.QueryEscape(verb), "application/json", b)
}

func firstLine(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			return strings.ToValidUTF8(line[:min(len(line), 300)], "?")
		}
	}
	return "(it said nothing)"
}
