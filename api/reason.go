package api

import "github.com/useargus/argus"

// readReason takes why the operator makes the call, for its row: from the header, or, of our own routes with effects,
// from the field reason of the body. A reason in the body that is not fit is the handler's to deny.
func (c *call) readReason() error {
	if values := c.request.Header.Values(argus.ReasonHeader); len(values) > 0 {
		if len(values) > 1 {
			return argus.Errorf(argus.CodeInvalidParameter, "Give %s once.", argus.ReasonHeader)
		}
		reason, err := argus.ParseReasonValue(values[0])
		if err != nil {
			return err
		}
		c.Record.Reason = reason
	}
	if !c.route.Effects || c.route.Service != "" || len(c.Body) == 0 {
		return nil
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if unmarshal(c.Body, &body) != nil || body.Reason == "" {
		return nil
	}
	reason, err := argus.Reason(body.Reason)
	if err != nil {
		return nil
	}
	if c.Record.Reason != "" && c.Record.Reason != reason {
		c.Record.Reason = ""
		return argus.Errorf(argus.CodeInvalidParameter, "%s and the body's reason differ. Leave one out.", argus.ReasonHeader)
	}
	c.Record.Reason = reason
	return nil
}
