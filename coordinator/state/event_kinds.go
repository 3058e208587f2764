package state

import (
	"errors"
	"fmt"

	"floe/protocol"
)

// EncodeEvent writes what happened as history keeps it: the kind and its CBOR.
func EncodeEvent(e EventBody) ([]byte, error) { return appendEvent(nil, e) }

func appendEvent(b []byte, e EventBody) ([]byte, error) {
	b, err := protocol.AppendMarshal(append(b, byte(e.Kind())), e)
	if err != nil {
		return nil, fmt.Errorf("encode event %d: %w", e.Kind(), err)
	}
	return b, nil
}

// usualEvent is about how long an event is, on average over a task's life.
const usualEvent = 128

// EncodeEvents fills in the Encoded of the events of one entry and returns them all,
// one behind the other. The chain of digests runs over them and history keeps them,
// so they are written once for both.
func EncodeEvents(events []Event) (all []byte, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	all = make([]byte, 0, usualEvent*len(events))
	ends := make([]int, len(events))
	for i := range events {
		if all, err = appendEvent(all, events[i].Body); err != nil {
			return nil, err
		}
		ends[i] = len(all)
	}
	begin := 0
	for i, end := range ends {
		events[i].Encoded = all[begin:end:end]
		begin = end
	}
	return all, nil
}

// DecodeEvent reads what EncodeEvent wrote.
func DecodeEvent(b []byte) (EventBody, error) {
	if len(b) == 0 {
		return nil, errors.New("empty event")
	}
	e := newEvent(EventKind(b[0]))
	if e == nil {
		return nil, fmt.Errorf("unknown event of kind %d", b[0])
	}
	if err := protocol.Unmarshal(b[1:], e); err != nil {
		return nil, fmt.Errorf("event of kind %d: %w", b[0], err)
	}
	return e, nil
}

// Kind returns the event's number in history.
func (*DatasetSubmitted) Kind() EventKind { return EventDatasetSubmitted }

// Kind returns the event's number in history.
func (*JobsAdded) Kind() EventKind { return EventJobsAdded }

// Kind returns the event's number in history.
func (*DatasetChanged) Kind() EventKind { return EventDatasetChanged }

// Kind returns the event's number in history.
func (*TasksMoved) Kind() EventKind { return EventTasksMoved }

// Kind returns the event's number in history.
func (*LeaseGranted) Kind() EventKind { return EventLeaseGranted }

// Kind returns the event's number in history.
func (*LeaseLapsed) Kind() EventKind { return EventLeaseLapsed }

// Kind returns the event's number in history.
func (*LeaseRevived) Kind() EventKind { return EventLeaseRevived }

// Kind returns the event's number in history.
func (*AttemptEnded) Kind() EventKind { return EventAttemptEnded }

// Kind returns the event's number in history.
func (*AttemptCleaned) Kind() EventKind { return EventAttemptCleaned }

// Kind returns the event's number in history.
func (*AttemptsWithdrawn) Kind() EventKind { return EventAttemptsWithdrawn }

// Kind returns the event's number in history.
func (*UsageWasted) Kind() EventKind { return EventUsageWasted }

// Kind returns the event's number in history.
func (*TasksReleased) Kind() EventKind { return EventTasksReleased }

// Kind returns the event's number in history.
func (*JobFinished) Kind() EventKind { return EventJobFinished }

// Kind returns the event's number in history.
func (*DatasetFinished) Kind() EventKind { return EventDatasetFinished }

// Kind returns the event's number in history.
func (*PilotEnrolled) Kind() EventKind { return EventPilotEnrolled }

// Kind returns the event's number in history.
func (*PilotChanged) Kind() EventKind { return EventPilotChanged }

// Kind returns the event's number in history.
func (*PilotLeft) Kind() EventKind { return EventPilotLeft }

// Kind returns the event's number in history.
func (*SiteChanged) Kind() EventKind { return EventSiteChanged }

// Kind returns the event's number in history.
func (*LaunchGranted) Kind() EventKind { return EventLaunchGranted }

// Kind returns the event's number in history.
func (*LaunchEnded) Kind() EventKind { return EventLaunchEnded }

// Kind returns the event's number in history.
func (*ActionTaken) Kind() EventKind { return EventActionTaken }

// Kind returns the event's number in history.
func (*CheckpointTaken) Kind() EventKind { return EventCheckpointTaken }

// Kind returns the event's number in history.
func (*FormatRaised) Kind() EventKind { return EventFormatRaised }

// Kind returns the event's number in history.
func (*LeaderChanged) Kind() EventKind { return EventLeaderChanged }

// Kind returns the event's number in history.
func (*TokenChanged) Kind() EventKind { return EventTokenChanged }

// Kind returns the event's number in history.
func (*MemberChanged) Kind() EventKind { return EventMemberChanged }

// Kind returns the event's number in history.
func (*NodeChanged) Kind() EventKind { return EventNodeChanged }

func newEvent(k EventKind) EventBody {
	switch k {
	case EventDatasetSubmitted:
		return new(DatasetSubmitted)
	case EventJobsAdded:
		return new(JobsAdded)
	case EventDatasetChanged:
		return new(DatasetChanged)
	case EventTasksMoved:
		return new(TasksMoved)
	case EventLeaseGranted:
		return new(LeaseGranted)
	case EventLeaseLapsed:
		return new(LeaseLapsed)
	case EventLeaseRevived:
		return new(LeaseRevived)
	case EventAttemptEnded:
		return new(AttemptEnded)
	case EventAttemptCleaned:
		return new(AttemptCleaned)
	case EventAttemptsWithdrawn:
		return new(AttemptsWithdrawn)
	case EventUsageWasted:
		return new(UsageWasted)
	case EventTasksReleased:
		return new(TasksReleased)
	case EventJobFinished:
		return new(JobFinished)
	case EventDatasetFinished:
		return new(DatasetFinished)
	case EventPilotEnrolled:
		return new(PilotEnrolled)
	case EventPilotChanged:
		return new(PilotChanged)
	case EventPilotLeft:
		return new(PilotLeft)
	case EventSiteChanged:
		return new(SiteChanged)
	case EventLaunchGranted:
		return new(LaunchGranted)
	case EventLaunchEnded:
		return new(LaunchEnded)
	case EventActionTaken:
		return new(ActionTaken)
	case EventCheckpointTaken:
		return new(CheckpointTaken)
	case EventFormatRaised:
		return new(FormatRaised)
	case EventLeaderChanged:
		return new(LeaderChanged)
	case EventTokenChanged:
		return new(TokenChanged)
	case EventMemberChanged:
		return new(MemberChanged)
	case EventNodeChanged:
		return new(NodeChanged)
	}
	return nil
}
