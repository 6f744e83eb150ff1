package client;

import campaign.v1.ActionDefinition;
import campaign.v1.ActionType;
import campaign.v1.ApplyCampaignRequest;
import campaign.v1.ApplyTimelineRequest;
import campaign.v1.CampaignContentServiceGrpc;
import campaign.v1.CampaignDefinition;
import campaign.v1.CampaignKind;
import campaign.v1.CampaignOrchestratorServiceGrpc;
import campaign.v1.CampaignTickServiceGrpc;
import campaign.v1.CampaignTimelineServiceGrpc;
import campaign.v1.Channel;
import campaign.v1.ChannelCounts;
import campaign.v1.Customer;
import campaign.v1.CustomerServiceGrpc;
import campaign.v1.GetCustomerRequest;
import campaign.v1.GetProgressRequest;
import campaign.v1.ListCustomersRequest;
import campaign.v1.ProcessCampaignTimelinesRequest;
import campaign.v1.Progress;
import campaign.v1.ProgressStatus;
import campaign.v1.StartTimelineRequest;
import campaign.v1.TickSummary;
import campaign.v1.Timeline;
import campaign.v1.TimelineDefinition;
import campaign.v1.UpsertCustomersRequest;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Status;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.stream.IntStream;

/**
 * Walks through the contract as a client in Java would, against a server that runs, and ends with the first difference.
 *
 * <p>Everything is made under names that no run before used, so the server's database need not be empty.
 */
final class Main {
  private final CampaignOrchestratorServiceGrpc.CampaignOrchestratorServiceBlockingStub orchestrator;
  private final CampaignContentServiceGrpc.CampaignContentServiceBlockingStub content;
  private final CampaignTimelineServiceGrpc.CampaignTimelineServiceBlockingStub timelines;
  private final CustomerServiceGrpc.CustomerServiceBlockingStub customers;
  private final CampaignTickServiceGrpc.CampaignTickServiceBlockingStub ticks;

  /** Begins the names of this run alone. */
  private final String run = "java-" + UUID.randomUUID().toString().substring(0, 8);

  public static void main(String[] arguments) throws Exception {
    var server = arguments.length > 0 ? arguments[0] : "127.0.0.1:50051";
    var channel =
        Grpc.newChannelBuilder(server, InsecureChannelCredentials.create())
            .intercept(new WithDeadline(Duration.ofMinutes(1)))
            .build();
    try {
      new Main(channel).walkThrough();
    } finally {
      channel.shutdownNow();
    }
  }

  private Main(io.grpc.Channel channel) {
    orchestrator = CampaignOrchestratorServiceGrpc.newBlockingStub(channel);
    content = CampaignContentServiceGrpc.newBlockingStub(channel);
    timelines = CampaignTimelineServiceGrpc.newBlockingStub(channel);
    customers = CustomerServiceGrpc.newBlockingStub(channel);
    ticks = CampaignTickServiceGrpc.newBlockingStub(channel);
  }

  private void walkThrough() throws InvalidProtocolBufferException {
    var customerIds = register();
    var timeline = apply();
    var progress = start(customerIds.get(0), timeline.getTimelineId());
    hitErrors(progress);
    tick(timeline.getTimelineId());
    readProgress(progress);
    readPages(customerIds);
  }

  private List<String> register() {
    var request = UpsertCustomersRequest.newBuilder();
    for (int number = 0; number < 7; number++) {
      var attributes =
          Struct.newBuilder()
              .putFields("plan", Value.newBuilder().setStringValue("gold").build())
              .putFields("seats", Value.newBuilder().setNumberValue(number).build());
      request.addCustomers(
          Customer.newBuilder()
              .setCustomerId(run + "-" + number)
              .setDisplayName("Customer " + number)
              .setEmail("customer-" + number + "@example.com")
              .setPhone("+14155552671")
              .setTimeZone("America/New_York")
              .setPipelineStage(run)
              .setAttributes(attributes));
    }
    var stored = new ArrayList<String>();
    // Each customer has a result of its own: the stored customer, or an error.
    for (var result : customers.upsertCustomers(request.build()).getResultsList()) {
      expect(result.getError().getMessage(), result.hasError(), false);
      stored.add(result.getCustomer().getCustomerId());
    }
    var ids = IntStream.range(0, 7).mapToObj(number -> run + "-" + number).toList();
    expect("the stored customers", stored, ids);
    System.out.println("registered " + stored.size() + " customers");
    return ids;
  }

  private Timeline apply() {
    applyCampaign(
        CampaignDefinition.newBuilder()
            .setCampaignId(run + "-mail")
            .setSubject("Welcome, {{ customer.name }}")
            .setTextBody("Day {{ day }}."));
    applyCampaign(CampaignDefinition.newBuilder().setCampaignId(run + "-sms").setSmsText("Hello {{ customer.name }}"));
    var definition =
        TimelineDefinition.newBuilder()
            .setSlug(run)
            .setName("From Java")
            .setPipelineStage(run)
            .setDurationDays(5)
            .setIsActive(true)
            .addActions(
                ActionDefinition.newBuilder()
                    .setDayNumber(1)
                    .setChannel(Channel.CHANNEL_EMAIL)
                    .setActionType(ActionType.ACTION_TYPE_SEND_EMAIL)
                    .setCampaignId(run + "-mail"))
            .addActions(
                ActionDefinition.newBuilder()
                    .setKey("reminder")
                    .setDayNumber(3)
                    .setDelayHours(10)
                    .setChannel(Channel.CHANNEL_SMS)
                    .setActionType(ActionType.ACTION_TYPE_SEND_SMS)
                    .setCampaignId(run + "-sms"));
    var request = ApplyTimelineRequest.newBuilder().setTimeline(definition).build();
    var timeline = timelines.applyTimeline(request).getTimeline();
    var keys = timeline.getDefinition().getActionsList().stream().map(ActionDefinition::getKey).toList();
    // An action's key is the campaign's id by default.
    expect("the actions' keys", keys, List.of(run + "-mail", "reminder"));
    System.out.println("applied two campaigns and the timeline " + run);
    return timeline;
  }

  private void applyCampaign(CampaignDefinition.Builder campaign) {
    campaign.setKind(CampaignKind.CAMPAIGN_KIND_TRANSACTIONAL);
    content.applyCampaign(ApplyCampaignRequest.newBuilder().setCampaign(campaign).build());
  }

  private Progress start(String customerId, long timelineId) {
    var request =
        StartTimelineRequest.newBuilder()
            .setCustomerId(customerId)
            .setTimelineId(timelineId)
            .setRequestId(run + "-start")
            .build();
    var progress = orchestrator.startTimeline(request).getProgress();
    expect("the status", progress.getStatus(), ProgressStatus.PROGRESS_STATUS_ACTIVE);
    expect("the day", progress.getCurrentDay(), 1);
    System.out.printf("started run %d, on day 1 of %d%n", progress.getProgressId(), progress.getDurationDays());

    // As after an answer that was lost: the same request with its id starts nothing, and has the same answer.
    var again = orchestrator.startTimeline(request).getProgress();
    expect("the run of the same request", again, progress);
    System.out.println("started again with the same request_id: run " + again.getProgressId());
    return progress;
  }

  private void hitErrors(Progress progress) throws InvalidProtocolBufferException {
    var request =
        StartTimelineRequest.newBuilder()
            .setCustomerId(progress.getCustomerId())
            .setTimelineId(progress.getTimelineId())
            .build();
    var live = Refusal.of(() -> orchestrator.startTimeline(request), Status.Code.ALREADY_EXISTS, "RUN_IS_LIVE");
    expect("the live run", live.metadata().get("progress_id"), Long.toString(progress.getProgressId()));

    var beyond = request.toBuilder().setStartDay(6).build();
    var invalid = Refusal.of(() -> orchestrator.startTimeline(beyond), Status.Code.INVALID_ARGUMENT, "INVALID_FIELDS");
    expect("the wrong fields", invalid.fields(), List.of("start_day"));

    var nobody = GetCustomerRequest.newBuilder().setCustomerId(run + "-nobody").build();
    var missing = Refusal.of(() -> customers.getCustomer(nobody), Status.Code.NOT_FOUND, "CUSTOMER_NOT_FOUND");
    expect("the customer that is missing", missing.metadata().get("customer_id"), run + "-nobody");
  }

  private void tick(long timelineId) {
    var request = ProcessCampaignTimelinesRequest.newBuilder().setTickId(run).addTimelineIds(timelineId).build();
    var summaries = new ArrayList<TickSummary>();
    // Any number of counts while it works, then one summary.
    ticks
        .processCampaignTimelines(request)
        .forEachRemaining(
            update -> {
              if (update.hasSummary()) {
                summaries.add(update.getSummary());
              }
            });
    expect("the number of summaries", summaries.size(), 1);
    var mails =
        summaries.get(0).getCounts().getChannelsList().stream()
            .filter(counts -> counts.getChannel() == Channel.CHANNEL_EMAIL)
            .mapToLong(ChannelCounts::getCompleted)
            .sum();
    expect("the mails", mails, 1L);
    System.out.println("hourly tick: " + mails + " mail sent");
  }

  private void readProgress(Progress started) {
    var request =
        GetProgressRequest.newBuilder()
            .setCustomerId(started.getCustomerId())
            .setProgressId(started.getProgressId())
            .build();
    var progress = orchestrator.getProgress(request).getProgress();
    var days = progress.getCompletedActionsList().stream().map(done -> done.getAction().getDayNumber()).toList();
    expect("the days of the completed actions", days, List.of(1));
    var next = progress.getNextAction();
    expect("the next action", next.getAction().getKey(), "reminder");
    System.out.println(
        "progress: 1 action completed, then reminder at " + Instant.ofEpochSecond(next.getDueTime().getSeconds()));
  }

  private void readPages(List<String> customerIds) {
    var sizes = new ArrayList<Integer>();
    var listed = new ArrayList<String>();
    var request = ListCustomersRequest.newBuilder().setPipelineStage(run).setPageSize(3);
    do {
      var page = customers.listCustomers(request.build());
      sizes.add(page.getCustomersCount());
      page.getCustomersList().forEach(customer -> listed.add(customer.getCustomerId()));
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
    expect("the sizes of the pages", sizes, List.of(3, 3, 1));
    expect("the listed customers", listed, customerIds);
    System.out.println("listed " + listed.size() + " customers on " + sizes.size() + " pages");
  }

  /** Ends the run with both where they differ. */
  static void expect(String what, Object seen, Object expected) {
    if (!Objects.equals(seen, expected)) {
      throw new IllegalStateException(what + ": " + seen + ", expected " + expected);
    }
  }
}
