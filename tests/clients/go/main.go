// Walks through the contract as a client in Go would, against a server that runs, and ends with the first difference.
// Everything is made under names that no run before used, so the server's database need not be empty.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"reflect"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	campaign "campaign-client/gen/campaign/v1"
)

func main() {
	log.SetFlags(0)
	server := flag.String("server", "127.0.0.1:50051", "host:port")
	flag.Parse()
	connection, err := grpc.NewClient(*server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	// A deadline, which every call takes along, as every caller should have one.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := walkThrough(ctx, newClient(connection)); err != nil {
		log.Fatal(err)
	}
}

// client has the stubs of the services.
type client struct {
	orchestrator campaign.CampaignOrchestratorServiceClient
	content      campaign.CampaignContentServiceClient
	timelines    campaign.CampaignTimelineServiceClient
	customers    campaign.CustomerServiceClient
	ticks        campaign.CampaignTickServiceClient
	// run begins the names of this run alone.
	run string
}

func newClient(connection grpc.ClientConnInterface) client {
	return client{
		orchestrator: campaign.NewCampaignOrchestratorServiceClient(connection),
		content:      campaign.NewCampaignContentServiceClient(connection),
		timelines:    campaign.NewCampaignTimelineServiceClient(connection),
		customers:    campaign.NewCustomerServiceClient(connection),
		ticks:        campaign.NewCampaignTickServiceClient(connection),
		run:          "go-" + strings.ToLower(rand.Text()[:8]),
	}
}

func walkThrough(ctx context.Context, c client) error {
	customerIDs, err := c.register(ctx)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	timeline, err := c.apply(ctx)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	progress, err := c.start(ctx, customerIDs[0], timeline.GetTimelineId())
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := c.hitErrors(ctx, progress); err != nil {
		return fmt.Errorf("errors: %w", err)
	}
	if err := c.tick(ctx, timeline.GetTimelineId()); err != nil {
		return fmt.Errorf("tick: %w", err)
	}
	if err := c.readProgress(ctx, progress); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	if err := c.readPages(ctx, customerIDs); err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	return nil
}

func (c client) register(ctx context.Context) ([]string, error) {
	var ids []string
	var customers []*campaign.Customer
	for number := range 7 {
		attributes, err := structpb.NewStruct(map[string]any{"plan": "gold", "seats": number})
		if err != nil {
			return nil, err
		}
		ids = append(ids, fmt.Sprintf("%s-%d", c.run, number))
		customers = append(customers, &campaign.Customer{
			CustomerId:    ids[number],
			DisplayName:   fmt.Sprintf("Customer %d", number),
			Email:         fmt.Sprintf("customer-%d@example.com", number),
			Phone:         "+14155552671",
			TimeZone:      "America/New_York",
			PipelineStage: c.run,
			Attributes:    attributes,
		})
	}
	response, err := c.customers.UpsertCustomers(ctx, &campaign.UpsertCustomersRequest{Customers: customers})
	if err != nil {
		return nil, err
	}
	// Each customer has a result of its own: the stored customer, or an error.
	var stored []string
	for _, result := range response.GetResults() {
		if result.GetError() != nil {
			return nil, errors.New(result.GetError().GetMessage())
		}
		stored = append(stored, result.GetCustomer().GetCustomerId())
	}
	fmt.Printf("registered %d customers\n", len(stored))
	return ids, expect("the stored customers", stored, ids)
}

func (c client) apply(ctx context.Context) (*campaign.Timeline, error) {
	for _, definition := range []*campaign.CampaignDefinition{
		{CampaignId: c.run + "-mail", Subject: "Welcome, {{ customer.name }}", TextBody: "Day {{ day }}."},
		{CampaignId: c.run + "-sms", SmsText: "Hello {{ customer.name }}"},
	} {
		definition.Kind = campaign.CampaignKind_CAMPAIGN_KIND_TRANSACTIONAL
		request := &campaign.ApplyCampaignRequest{Campaign: definition}
		if _, err := c.content.ApplyCampaign(ctx, request); err != nil {
			return nil, err
		}
	}
	response, err := c.timelines.ApplyTimeline(ctx, &campaign.ApplyTimelineRequest{
		Timeline: &campaign.TimelineDefinition{
			Slug:          c.run,
			Name:          "From Go",
			PipelineStage: c.run,
			DurationDays:  5,
			IsActive:      true,
			Actions: []*campaign.ActionDefinition{
				{
					DayNumber:  1,
					Channel:    campaign.Channel_CHANNEL_EMAIL,
					ActionType: campaign.ActionType_ACTION_TYPE_SEND_EMAIL,
					CampaignId: c.run + "-mail",
				},
				{
					Key:        "reminder",
					DayNumber:  3,
					DelayHours: 10,
					Channel:    campaign.Channel_CHANNEL_SMS,
					ActionType: campaign.ActionType_ACTION_TYPE_SEND_SMS,
					CampaignId: c.run + "-sms",
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	timeline := response.GetTimeline()
	var keys []string
	for _, action := range timeline.GetDefinition().GetActions() {
		keys = append(keys, action.GetKey())
	}
	fmt.Printf("applied two campaigns and the timeline %s\n", c.run)
	// An action's key is the campaign's id by default.
	return timeline, expect("the actions' keys", keys, []string{c.run + "-mail", "reminder"})
}

func (c client) start(ctx context.Context, customerID string, timelineID int64) (*campaign.Progress, error) {
	request := &campaign.StartTimelineRequest{
		CustomerId: customerID,
		TimelineId: timelineID,
		RequestId:  c.run + "-start",
	}
	response, err := c.orchestrator.StartTimeline(ctx, request)
	if err != nil {
		return nil, err
	}
	progress := response.GetProgress()
	if err := expect("the status", progress.GetStatus(), campaign.ProgressStatus_PROGRESS_STATUS_ACTIVE); err != nil {
		return nil, err
	}
	if err := expect("the day", progress.GetCurrentDay(), int32(1)); err != nil {
		return nil, err
	}
	fmt.Printf("started run %d, on day 1 of %d\n", progress.GetProgressId(), progress.GetDurationDays())

	// As after an answer that was lost: the same request with its id starts nothing, and has the same answer.
	again, err := c.orchestrator.StartTimeline(ctx, request)
	if err != nil {
		return nil, err
	}
	fmt.Printf("started again with the same request_id: run %d\n", again.GetProgress().GetProgressId())
	return progress, expect("whether the answers are equal", proto.Equal(again, response), true)
}

func (c client) hitErrors(ctx context.Context, progress *campaign.Progress) error {
	request := &campaign.StartTimelineRequest{
		CustomerId: progress.GetCustomerId(),
		TimelineId: progress.GetTimelineId(),
	}
	_, err := c.orchestrator.StartTimeline(ctx, request)
	live, err := refused(err, codes.AlreadyExists, "RUN_IS_LIVE")
	if err != nil {
		return err
	}
	id := strconv.FormatInt(progress.GetProgressId(), 10)
	if err := expect("the live run", live.metadata["progress_id"], id); err != nil {
		return err
	}

	request.StartDay = 6
	_, err = c.orchestrator.StartTimeline(ctx, request)
	invalid, err := refused(err, codes.InvalidArgument, "INVALID_FIELDS")
	if err != nil {
		return err
	}
	if err := expect("the wrong fields", invalid.fields, []string{"start_day"}); err != nil {
		return err
	}

	nobody := c.run + "-nobody"
	_, err = c.customers.GetCustomer(ctx, &campaign.GetCustomerRequest{CustomerId: nobody})
	missing, err := refused(err, codes.NotFound, "CUSTOMER_NOT_FOUND")
	if err != nil {
		return err
	}
	return expect("the customer that is missing", missing.metadata["customer_id"], nobody)
}

func (c client) tick(ctx context.Context, timelineID int64) error {
	request := &campaign.ProcessCampaignTimelinesRequest{TickId: c.run, TimelineIds: []int64{timelineID}}
	updates, err := c.ticks.ProcessCampaignTimelines(ctx, request)
	if err != nil {
		return err
	}
	// Any number of counts while it works, then one summary.
	var summaries []*campaign.TickSummary
	for {
		update, err := updates.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if summary := update.GetSummary(); summary != nil {
			summaries = append(summaries, summary)
		}
	}
	if err := expect("the number of summaries", len(summaries), 1); err != nil {
		return err
	}
	var mails int64
	for _, counts := range summaries[0].GetCounts().GetChannels() {
		if counts.GetChannel() == campaign.Channel_CHANNEL_EMAIL {
			mails = counts.GetCompleted()
		}
	}
	fmt.Printf("hourly tick: %d mail sent\n", mails)
	return expect("the mails", mails, int64(1))
}

func (c client) readProgress(ctx context.Context, started *campaign.Progress) error {
	response, err := c.orchestrator.GetProgress(ctx, &campaign.GetProgressRequest{
		CustomerId: started.GetCustomerId(),
		ProgressId: started.GetProgressId(),
	})
	if err != nil {
		return err
	}
	var days []int32
	for _, done := range response.GetProgress().GetCompletedActions() {
		days = append(days, done.GetAction().GetDayNumber())
	}
	if err := expect("the days of the completed actions", days, []int32{1}); err != nil {
		return err
	}
	next := response.GetProgress().GetNextAction()
	due := next.GetDueTime().AsTime().Format(time.RFC3339)
	fmt.Printf("progress: 1 action completed, then %s at %s\n", next.GetAction().GetKey(), due)
	return expect("the next action", next.GetAction().GetKey(), "reminder")
}

func (c client) readPages(ctx context.Context, customerIDs []string) error {
	var sizes []int
	var listed []string
	request := &campaign.ListCustomersRequest{PipelineStage: c.run, PageSize: 3}
	for {
		page, err := c.customers.ListCustomers(ctx, request)
		if err != nil {
			return err
		}
		sizes = append(sizes, len(page.GetCustomers()))
		for _, customer := range page.GetCustomers() {
			listed = append(listed, customer.GetCustomerId())
		}
		if page.GetNextPageToken() == "" {
			break
		}
		request.PageToken = page.GetNextPageToken()
	}
	if err := expect("the sizes of the pages", sizes, []int{3, 3, 1}); err != nil {
		return err
	}
	fmt.Printf("listed %d customers on %d pages\n", len(listed), len(sizes))
	return expect("the listed customers", listed, customerIDs)
}

// expect is an error that shows both where they differ.
func expect[T any](what string, seen, expected T) error {
	if !reflect.DeepEqual(seen, expected) {
		return fmt.Errorf("%s: %v, expected %v", what, seen, expected)
	}
	return nil
}
