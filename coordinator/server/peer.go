package server

import (
	"net/http"
	"strconv"

	"floe/protocol"
	"floe/protocol/transport"
)

// hashes tells another coordinator what this one's record is known by.
func (s *Server) hashes(w http.ResponseWriter, r *http.Request) error {
	at := uint64(0)
	if text := r.URL.Query().Get("at"); text != "" {
		var err error
		if at, err = strconv.ParseUint(text, 10, 64); err != nil {
			return protocol.Errorf(protocol.CodeBadRequest, "at %q: want a log index", text)
		}
	}
	reply := protocol.HashesReply{Node: s.Node}
	if s.Hashes != nil {
		reply = s.Hashes(at)
	}
	return transport.WriteCBOR(w, &reply)
}
