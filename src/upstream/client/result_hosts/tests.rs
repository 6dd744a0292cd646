use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use reqwest::dns::{Addrs, Name, Resolving};

use super::*;
use crate::config::{Config, Environment};

/// A resolver with scripted answers; `None`: the host cannot be resolved. It counts the lookups.
#[derive(Debug, Default)]
struct Scripted {
    answer: Mutex<Option<Vec<IpAddr>>>,
    lookups: Mutex<Vec<String>>,
}

impl Scripted {
    fn answering(addresses: &[&str]) -> Arc<Self> {
        let resolver = Arc::new(Self::default());
        resolver.set(Some(addresses));
        resolver
    }

    fn set(&self, addresses: Option<&[&str]>) {
        *self.answer.lock().unwrap() = addresses.map(|all| all.iter().map(|ip| ip.parse().unwrap()).collect());
    }

    fn lookups(&self) -> usize {
        self.lookups.lock().unwrap().len()
    }
}

impl Resolve for Scripted {
    fn resolve(&self, name: Name) -> Resolving {
        self.lookups.lock().unwrap().push(name.as_str().to_owned());
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            // Long enough that concurrent callers meet.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let found = answer.ok_or("no such host")?;
            Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

fn hosts(resolver: &Arc<Scripted>, variables: &[(&str, &str)]) -> ResultHosts {
    let environment: Environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let config = Config::load(None, &environment).unwrap().upstream;
    ResultHosts::with_resolver(&config, DownloadGuard::new(&config), Arc::clone(resolver) as Arc<dyn Resolve>)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_looked_up_once_and_again_after_five_minutes() {
    let resolver = Scripted::answering(&["198.18.0.7", "198.18.0.8"]);
    let hosts = hosts(&resolver, &[]);
    let refused = "oss.gptproto.com resolves to 198.18.0.7, a fake-IP address of a local proxy; add 198.18.0.0/15 to \
                   upstream.download_allow";
    let concurrent = futures_util::future::join_all((0..20).map(|_| hosts.check())).await;
    assert!(concurrent.iter().all(|answer| answer.as_ref().is_err_and(|problem| problem == refused)), "{concurrent:?}");
    assert_eq!(*resolver.lookups.lock().unwrap(), ["oss.gptproto.com"]);

    // It is corrected; the answer is remembered for five minutes.
    resolver.set(Some(&["8.8.8.8", "10.0.0.1"]));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert!(hosts.clone().check().await.is_err());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(hosts.check().await, Ok(()));
    assert_eq!(resolver.lookups(), 2);
    // So is the good answer.
    resolver.set(Some(&["198.18.0.7"]));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(hosts.check().await, Ok(()));
    assert_eq!(resolver.lookups(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_resolved_proves_nothing() {
    let resolver = Arc::new(Scripted::default());
    let hosts = hosts(&resolver, &[]);
    assert_eq!(hosts.check().await, Ok(()));
    resolver.set(Some(&[]));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(hosts.check().await, Ok(()));
    assert_eq!(resolver.lookups(), 2);
    // It is not remembered for long.
    resolver.set(Some(&["10.0.0.1"]));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(hosts.check().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_up_where_the_hosts_are_not_known() {
    let resolver = Scripted::answering(&["198.18.0.7"]);
    for variables in [
        &[("GATEWAY_UPSTREAM__BASE_URL", "https://relay.example/api/gptproto")][..],
        &[("GATEWAY_UPSTREAM__BASE_URL", "https://notgptproto.com")],
        &[("GATEWAY_UPSTREAM__BASE_URL", "http://127.0.0.1:8790")],
        &[("GATEWAY_UPSTREAM__PROXY", "http://proxy.example.com:3128")],
    ] {
        assert_eq!(hosts(&resolver, variables).check().await, Ok(()), "{variables:?}");
    }
    assert_eq!(resolver.lookups(), 0);
    let api = hosts(&resolver, &[("GATEWAY_UPSTREAM__BASE_URL", "https://api.gptproto.com")]);
    assert!(api.check().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_allowed_network_is_no_refusal() {
    let resolver = Scripted::answering(&["198.18.0.7"]);
    let allowed = hosts(&resolver, &[("GATEWAY_UPSTREAM__DOWNLOAD_ALLOW", "198.18.0.0/15")]);
    assert_eq!(allowed.check().await, Ok(()));
    let by_host = hosts(&resolver, &[("GATEWAY_UPSTREAM__DOWNLOAD_ALLOW", "*.gptproto.com")]);
    assert_eq!(by_host.check().await, Ok(()));
}
