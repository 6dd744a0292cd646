//! Words that names may use without an entry of the glossary: English, and what every programmer of servers knows.

/// In alphabetical order. No word of the domain stands here: that is what the glossary is for.
pub(crate) const GENERAL: &str = "
a abandoned abandonment accept accepted accepting access accessor acknowledged acquire action active actor actual adapter adaptive add
address admin administration after age agent ai alias alive all allocation allowance allowed already ambiguity ambiguous amount an and animal annotation
answer any api app append arg argument array as aspect asset async at attempted attribution audit auth authentication
authorization availability available average
back backend background backoff balance banner base base64 basis batch bearer before begin benching binary bind blob block blocking
body bomb bool bound boundary browser bucket buffer build builder bulk by bypass byte bytes
cache cached cell call callback cancel cancellation cancelled candidate canvas caption carried case cause certificate chain change changed
channel chart chat check checked checker choice chosen chunk chunked clamp class classification classifier classify cleaner
cleanup clear cli clock close closed coalesced code codec coding collector colour column command comment common compat
completed completion component composite compression computed concurrency config configuration conflict connect connection
consistency consumer contact container content context control conversation conversion convert converted converter convertible cookie copy core correlation cors cost
count counted counter coverage create created credential cross csv current cursor custom cut cycle
daily damage damaged dashboard data database date dead deadline debug decimal decision declared decode decoded decoder decoding default deferred delay delete
deleted delivered delivery delta demand denied deployment depth describe descriptor destination detail detected dialect dialog
difference digest dimension direct directory disabled disk dispatch display dns distinct distribution document dom domain done
download drain draw drawing drained drift drop dropped dropping dry due durability duration
each edge edit effect element empty enabled encode encoded encoder encoding end ended endpoint enforced engine entry enum
envelope environment equal error escape estimate estimator etag evaluation event evicted evictor example exceeded
excess exchange exclusive executor exempt exhausted existing exit expected expired expiry export extended extension
external extra extractor
factor facts failed failure fair fallback family fast fault feature feed fetch fetched fetcher few field figures file filter final
find finding finish finished first fixture flag flight float flush flushed follow follower for forecast form format forwarded fraction
frame framing free from front full function fuzz fuzzing
gallery gap gate gated gateway gauge generate generated generation generator get global gpt gptproto grace grade grant granted group grouped
guard
handle handler handshake hash head header healthcheck healthy heap heartbeat held help hidden hint histogram history hit host hosts hour
http http1 http2 hub hyper
icon id identical identity idle ids ignored image immediate import in incoming index info inherited init inline injected inner input inspection
instance intake integer interface interim internal interval into invalid io ip iso issue item iterator
join joined jpeg json
keep key keyed kind knowledge known
label language last late latency later latest launch layer layout learned learner learning left legacy length letter level
lib library lifecycle lifetime limit limited limiter line linear link list listed listing listen listener live load local location
lock log logged logging login lookup loop lossy
main maintenance manager manual map mapping margin mark markdown mask match matched matching max maximum mean meaning measure measured
measurement media median member memory merge message meta metadata meter method metric middleware migration millis
mime min minimum minted minute missing mod mode model module money monitor monotonic monthly multipart multiple mutex
name named names negotiation nested network new next no node nonce none normal not now null number numeric
object observation observed observer obstacle of off offset ok on once one only open openai openapi operation operations option optional
ordering orientation origin orphan orphans other out outcome outgoing outline outlook output outstanding over override overview own owned owner
pad padded padding page paged pagination paid pair panic parallel parameter parameterised params parse parsed parser
parsing part partial particle parts password past patch path pattern pause payment peak peer pending per percent percentile period
permanent permission persist persisted persistence phase pick picture piece pipe pixel placeholder plain plan planner planning playground plug png point
policy polled poller polling pool port position post predicate predicted prefer preference prefix prepared presign
pressure preview previous price priced pricing primary printer prior priority private probe probing problem process
processing producer production profile program progress progressive project property proto protocol provider proxy pruned public
publication publish published publisher pull pure push put
quality quantile quantity query queue queued quiet
random range rate ratio raw reach read reader readiness ready reason received receiver recent recheck recognized
reconcile reconciled reconciliation record recorded recorder recount recovered recovery redirect refetch refetched reference refund
refusal refused register registration registry reject rejected rejection relay release released reload reloadable reloaded remainder remaining
remote removed render renewal repair repeated replaced replay reply report reporter repository requested requeue required reported
reservable reserved reset resolution resolved resolver resource response rest restart restarted resubmit resume
retained retention retry retryable return reuse reused revision revoked rng role root rotation round route router
routes routing row rows rule run runner running runtime
safe same sample sampler save saved scalar scan scene schedule scheduled scheduler schema scope score screen script search
seconds secret section seed segment selection semaphore send sender sent sequence serial series serve served server service
serving session set setter setting settings settled setup severity shadow shape share shared shed sheet shift short
show shutdown sibling side signal signature signed signer signing silent similarity simple simulate single sink size sized skip
slot slow small smoothed snapshot socket soft sort source space spacing spawn spec specification speed spent split splitter sqlite
stable stage stale stall stalled stamp standard standing start started startup stat state statement static statistics stats status
step stop stopped stopping storage store stored stream streamed streaming strict string struct structure stub style subject
submission submitted subscriber subscription subset success sum summary supervision supervisor support supported survival
suspended swap sweep sweeper switch sync synchronous syntax system
table tag tail take target task tcp telemetry temp temporary term terms terminal terminated test text the thread threshold thumbnail thumbnails
throttle tick ticker tie time timed timeout timer timestamp timing tint tiny tls to token too top total touch trace track
tracked tracker tracking trailing trait transaction transfer transform transient transition transparency transport tree trend
trigger trimmed trip trust trusted try ttl tuning tuple twice twin type typed
udp unacknowledged unattended unavailable unbounded unclassified undecided undelivered under unexpected unexplained unfinished unified
uniform unique unit unix unknown unlimited unmatched unpack unpacked unpacker unreachable unread unreadable unsent unsupported until unused up
update updated upload uploaded upper uptime url urls usage usd use used user utc util
v1 v2 v3 valid validate validated validation validator value variant vec vendor verdict verification verified verify version
via view virtual visible void volume
wait waiting wake warm warning watch watcher weak web webhook webp weight whole wide width window with without word work worker
workspace world write writer written
xml
year
zone
";
