//! Words that names may use without an entry of the glossary: English, and what every programmer of servers knows.

/// In alphabetical order. No word of the domain stands here: that is what the glossary is for.
pub const GENERAL: &str = "
abandoned abandonment accept accepted accepting acknowledged acquire action active actual adapter add address after age agent
alive all allowed allowance ambiguity ambiguous amount an and answer any api app append argument arg array as asset async at
attribution audit auth authentication authorization available average
back background backoff balance banner base base64 batch bearer before benching binary bind block blocking body bool bound
boundary browser bucket buffer build builder by byte bytes
cache cached call callback cancel cancellation cancelled candidate case cause certificate change changed channel chart check
checked checker choice chunk chunked class classification classifier classify cleaner cleanup clear cli clock close closed code
codec collector colour column command comment common compat completed completion component compression config configuration
conflict connect connection consumer contact content context control conversion convert converter cookie copy core correlation
cors cost count counter coverage create created credential csv current cursor custom cut
data database date deadline decimal decision declared decode decoded decoder default deferred delay deleted delivered delivery
delta deployment depth descriptor destination detail detected dialect difference digest dimension direct directory disabled
disk dispatch display distribution document domain done download drain drop dropped dry due duration
edit effect element empty enabled encode encoded encoder encoding end endpoint ended engine entry environment error escape estimate
estimator etag evaluation event example exceeded exchange executor exempt exhausted existing exit expected expired expiry export
extension external extra extractor
factor failed failure fair fallback family fault feature feed fetch fetched fetcher field file filter final finding finish finished
first flag flight float flush flushed for forecast form format forwarded fraction frame framing free from front full function fuzz
fuzzing
gate gateway gauge generated generation generator get global gpt gptproto grace grant granted group guard
handle handler hash header healthy heap help hidden histogram history hit host hosts http http1 http2 hub hyper
id ids identity idle ignored image immediate import in incoming index info inner inline input inspection instance intake integer
internal interval into invalid io ip issue item iterator
join joined json
keep key keyed kind known
label language last late latency latest launch layer layout learned learner learning left length letter level lib library lifecycle
limit limited limiter line linear link list listen listener live load local location lock log logged logging lookup loop lossy
main maintenance manager map mapping mark mask match matched matching max maximum mean measure measured measurement median media
member memory merge message meta metadata meter method metric middleware migration millis min mime minimum minute missing mode model
module monitor monotonic mod multipart mutex
name named names negotiation network new next no node none normal not null number numeric
object observation observed of off offset ok on once one only open openai openapi operation option optional ordering origin other
out outcome outgoing output over override overview owned owner
pad padded padding page pair panic parallel parameter parameterised params parse parsed parser parsing part partial password patch path pattern
pause pending per percent percentile period permanent permission persist persisted phase picture pipe pixel plain
plan planner planning png point policy pool port position post predicate prefer preference prefix prepared pressure preview previous price
priced pricing printer prior priority private probe probing problem process processing producer production profile program progress
project property protocol provider proxy public pull pure push put
quality quantile query queue queued
random range rate ratio raw reader read readiness ready reason received receiver recent recognized reconcile reconciled
reconciliation record recorded recorder recovered recovery redirect reference refused refusal register registration registry reject
rejected rejection relay release released remaining remote removed render renewal replay reply repository required requested reset
resolution resolved resolver resource response restart restarted resume retention retry return reuse revision revoked rng role
root rotation round route router routes routing row rule run runner running runtime
sample sampler scalar scan schedule scheduled scheduler schema scope score screen script seconds secret section seed segment
selection semaphore send sender sent sequence serial serve server service session set setting settings setup severity shadow
shape share shared shed sheet shutdown sibling side signal signature signed signer signing silent single sink size sized skip slot
slow snapshot socket sort source space spec specification speed spent split sqlite stage stale standard start started startup
stat state statement static statistics stats status step stop stopped storage store stored stream streamed streaming strict string
struct stub style subject submission submitted subscriber subscription sum summary support supported survival sweep sweeper switch
sync synchronous syntax system
table tag target task tcp telemetry temporary terminal terminated test text the thread threshold throttle ticker time timed timeout
timer timestamp timing tls to token total trace tracked tracker tracking trait transaction transfer transform transition
transport tree trend trigger trimmed trust trusted try ttl tuning type typed
udp unacknowledged unavailable unbounded unexpected unexplained unfinished unified unit unix unknown unmatched unread unreadable
unsupported unsent unused up update updated upload uploaded uptime url urls usage usd use used user utc util
v1 v2 v3 valid validate validated validation validator value variant vec vendor verdict verification verified version view virtual
visible volume
wait waiting wake warm warning watch watcher web webhook weight width window with without work worker workspace world write
writer written
xml
year
zone
";
