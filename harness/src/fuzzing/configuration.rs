//! Whatever an operator writes: no text panics, what is refused is refused in one line, and settings that are printed
//! read back equal.

use std::net::SocketAddr;

use transport_mio::config::{Layer, PeerSetting, Settings};

/// Bytes of one input; longer ones only slow a fuzzer down.
const BYTES_MAX: usize = 8_192;

/// Runs one input, as the text of a configuration file and as a peer on the command line.
///
/// # Panics
/// If a refusal is not one line, or something that was understood is printed and then understood otherwise.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(&input[..input.len().min(BYTES_MAX)]) else { return };
    if let Ok(peer) = text.parse::<PeerSetting>() {
        assert_eq!(peer.to_string().parse(), Ok(peer), "parse(print(peer)) = peer");
    }
    let layer = match Layer::parse(text) {
        Ok(layer) => layer,
        Err(why) => return assert!(!why.is_empty() && !why.contains('\n'), "{why:?} is no line"),
    };
    assert_eq!(reread(&layer), layer, "parse(print(layer)) = layer");
    assert_eq!(layer.clone().over(Layer::default()), layer, "what nothing is said below stays");
    assert_eq!(Layer::default().over(layer.clone()), layer, "nothing said above covers nothing");
    if asks_for_names(&layer) {
        return;
    }
    match Settings::complete(layer) {
        Ok(settings) => {
            let again = Settings::complete(reread(&settings.to_layer()));
            let again = again.unwrap_or_else(|why| panic!("settings that were complete are refused: {why}"));
            assert_eq!(again, settings, "complete(parse(print(settings))) = settings");
        }
        Err(why) => assert!(!why.to_string().contains('\n'), "{why} is no line"),
    }
}

/// Names of hosts are asked for on the network, which is no business of this target.
fn asks_for_names(layer: &Layer) -> bool {
    let is_name = |address: &Option<String>| address.as_ref().is_some_and(|text| text.parse::<SocketAddr>().is_err());
    is_name(&layer.client_listen) || is_name(&layer.peer_listen)
}

/// What comes of a layer that is printed as TOML.
fn reread(layer: &Layer) -> Layer {
    let printed = toml::to_string(layer).unwrap_or_else(|error| panic!("{layer:?} cannot be printed: {error}"));
    Layer::parse(&printed).unwrap_or_else(|why| panic!("own output is refused: {why}: {printed}"))
}
