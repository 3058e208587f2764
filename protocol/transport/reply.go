package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"floe/protocol"
)

// Media types of the API.
const (
	TypeCBOR    = "application/cbor"
	TypeJSON    = "application/json"
	TypeProblem = "application/problem+json"
)

// maxProblem bounds the body of a refusal that a client reads.
const maxProblem = 64 << 10

// problem is an Error as an RFC 9457 document.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	*protocol.Error
}

// WriteError answers with err: its *protocol.Error with the status of its code,
// anything else as CodeInternal without its text, which may hold internals and
// belongs in the log of the caller. The body is CBOR if the request accepts or
// sends CBOR, else a problem document.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e := refusal(err)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(e.RetryAfter), 10))
	}
	var body []byte
	if wantsCBOR(r) {
		h.Set("Content-Type", TypeCBOR)
		body, err = protocol.Marshal(e)
	} else {
		h.Set("Content-Type", TypeProblem)
		h.Set("X-Content-Type-Options", "nosniff")
		body, err = json.Marshal(problem{e.Code.String(), e.Code.HTTPStatus(), e})
	}
	if err != nil { // unreachable: an Error is strings and integers
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(e.Code.HTTPStatus())
	_, _ = w.Write(body) // the client is gone if this fails
}

// refusal finds what may be told about err.
func refusal(err error) *protocol.Error {
	var e *protocol.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e) && e.Code != protocol.CodeOK:
		return e
	case errors.As(err, &tooLarge):
		return protocol.Errorf(protocol.CodeTooLarge, "body of more than %d bytes", tooLarge.Limit)
	}
	return protocol.Errorf(protocol.CodeInternal, "internal error")
}

func wantsCBOR(r *http.Request) bool {
	if accept := r.Header.Get("Accept"); accept != "" {
		return strings.Contains(accept, TypeCBOR)
	}
	return mediaType(r.Header) == TypeCBOR
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// ReadCBOR decodes the body of a request strictly into v, reading at most limit
// bytes. It returns a *protocol.Error.
func ReadCBOR(r *http.Request, limit int64, v any) error {
	if t := mediaType(r.Header); t != TypeCBOR {
		return protocol.Errorf(protocol.CodeBadRequest, "content type %.40q, want %s", t, TypeCBOR)
	}
	err := protocol.ReadMessage(r.Body, r.ContentLength, limit, v)
	var e *protocol.Error
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case errors.As(err, &tooLarge):
		return refusal(err)
	}
	return protocol.Errorf(protocol.CodeBadRequest, "body ended early")
}

// WriteCBOR answers with v. It returns an error only if v cannot be encoded, and
// then nothing has been written.
func WriteCBOR(w http.ResponseWriter, v any) error {
	body, err := protocol.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode reply %T: %w", v, err)
	}
	h := w.Header()
	h.Set("Content-Type", TypeCBOR)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
	return nil
}

// ResponseError turns a response of status 400 or more into its *protocol.Error,
// reading and closing the body. It returns nil for the others and leaves their
// body alone.
func ResponseError(resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // a cut body decodes to less
	return decodeError(resp.StatusCode, mediaType(resp.Header), body)
}

// decodeError reads a refusal; where the body says nothing usable, such as that
// of a proxy, the status does.
func decodeError(status int, mediaType string, body []byte) *protocol.Error {
	var e protocol.Error
	var err error
	switch mediaType {
	case TypeCBOR:
		err = protocol.UnmarshalReply(body, &e)
	case TypeProblem, TypeJSON:
		err = decodeProblem(body, &e)
	default:
		err = errors.ErrUnsupported
	}
	if err != nil || e.Code == protocol.CodeOK {
		e.Code = codeOfStatus(status)
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	return &e
}

// decodeProblem reads any RFC 9457 document; members of "errors" may be strings
// or objects with a message and a location.
func decodeProblem(body []byte, e *protocol.Error) error {
	var p struct {
		Code       protocol.Code     `json:"code"`
		Title      string            `json:"title"`
		Detail     string            `json:"detail"`
		Leader     string            `json:"leader"`
		RetryAfter protocol.Seconds  `json:"retry_after"`
		Errors     []json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	e.Code, e.Message, e.Leader, e.RetryAfter = p.Code, p.Detail, p.Leader, p.RetryAfter
	if e.Message == "" {
		e.Message = p.Title
	}
	for _, raw := range p.Errors {
		var text string
		var object struct{ Message, Location string }
		switch {
		case json.Unmarshal(raw, &text) == nil:
		case json.Unmarshal(raw, &object) == nil && object.Location != "":
			text = object.Location + ": " + object.Message
		default:
			text = object.Message
		}
		if text = strings.TrimSpace(text); text != "" {
			e.Details = append(e.Details, text)
		}
	}
	return nil
}

// codeOfStatus is the code that travels under status, or the nearest.
func codeOfStatus(status int) protocol.Code {
	for c := protocol.CodeBadRequest; c <= protocol.CodeInternal; c++ {
		if c.HTTPStatus() == status {
			return c
		}
	}
	switch status {
	case http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return protocol.CodeUnknown
	case http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong:
		return protocol.CodeTooLarge
	}
	if status < http.StatusInternalServerError {
		return protocol.CodeBadRequest
	}
	return protocol.CodeInternal
}
