package state

import "floe/protocol"

// nodeName names a host of a site.
func nodeName(s protocol.SiteID, host string) string { return string(s) + "/" + host }
