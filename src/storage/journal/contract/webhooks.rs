//! Webhooks that are to be sent.

use super::*;
use crate::storage::journal::stored::{JobEnd, PendingWebhook};

fn webhook(number: u128, url: &str) -> Webhook {
    Webhook { id: EventId::new(NOW, number), url: url.parse().unwrap() }
}

pub(super) async fn webhooks_are_pending_until_they_end(adapter: Adapter) {
    let job = job_record(1);
    let id = job.id;
    let purchase = PurchaseId { job: id, slot: 0 };
    let pending = async |journal: &dyn Journal| -> Vec<(u128, u32, Option<RunningTime>)> {
        let one = |one: &PendingWebhook| {
            assert_eq!((one.job, one.end), (id, JobEnd { completed: true, at: NOW }));
            let number = (0..9).find(|&number| EventId::new(NOW, number) == one.webhook.id).unwrap();
            (number, one.tries, one.due)
        };
        journal.pending_webhooks(None).await.unwrap().iter().map(one).collect()
    };
    let journal = &*adapter.journal;
    write(journal, [intent(job, &[1])]).await;
    let subscribed = |webhook| Record::Subscribed { job: id, webhook, at: NOW };
    // In falling order of ids; the last one is for an address that is there already.
    for (number, url) in [(2, "https://one.test/?a"), (1, "https://two.test/"), (3, "https://one.test/?a")] {
        write(journal, [subscribed(webhook(number, url))]).await;
    }
    assert_eq!(pending(journal).await, [], "the job is under way");
    write(journal, [resolved(purchase, &[picture()])]).await;
    assert_eq!(pending(journal).await, [(2, 0, None), (1, 0, None)]);
    adapter.pass(HOUR).await;
    let due = journal.running_time().plus(HOUR);
    write(journal, [Record::WebhookTried { webhook: EventId::new(NOW, 2), tries: 3, delay: HOUR }]).await;
    assert_eq!(pending(journal).await, [(2, 3, Some(due)), (1, 0, None)]);
    let absent = JobId::new(NOW, 99);
    assert!(
        journal
            .append(Record::Subscribed { job: absent, webhook: webhook(5, "https://x.test/"), at: NOW })
            .await
            .is_err()
    );
    assert_eq!(journal.standing(), Standing::Fine);

    let adapter = adapter.reopened_after(HOUR * 24).await;
    let journal = &*adapter.journal;
    assert_eq!(pending(journal).await, [(2, 3, Some(due)), (1, 0, None)]);
    assert_eq!(due.since(journal.running_time()), HOUR, "a day without the gateway does not count");
    let end = WebhookEnd::Delivered;
    write(journal, [Record::WebhookEnded { webhook: EventId::new(NOW, 2), end, at: NOW }]).await;
    assert_eq!(pending(journal).await, [(1, 0, None)]);
    // A delivered webhook may be subscribed again.
    write(journal, [subscribed(webhook(4, "https://one.test/?a"))]).await;
    assert_eq!(pending(journal).await, [(1, 0, None), (4, 0, None)]);
    assert_eq!(journal.pending_webhooks(Some(absent)).await.unwrap(), []);
    assert_eq!(journal.pending_webhooks(Some(id)).await.unwrap().len(), 2);
}
