package main

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is what an error says beside its code and its message.
type refusal struct {
	// metadata says what the error is about, by name, such as `progress_id`.
	metadata map[string]string
	// fields are those of the request that are wrong.
	fields []string
}

// refused expects that a call was refused with this code and reason.
func refused(err error, code codes.Code, reason string) (refusal, error) {
	var info *errdetails.ErrorInfo
	var fields []string
	failure := status.Convert(err)
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			info = detail
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
		}
	}
	seen := []any{failure.Code(), info.GetDomain(), info.GetReason()}
	if err := expect("the refusal", seen, []any{code, "campaign.v1", reason}); err != nil {
		return refusal{}, fmt.Errorf("%w: %s", err, failure.Message())
	}
	fmt.Printf("refused: %s: %s\n", reason, failure.Message())
	return refusal{metadata: info.GetMetadata(), fields: fields}, nil
}
